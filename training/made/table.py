"""The table of kinds of scenes; a new kind is one function and one line."""

from __future__ import annotations

from training.made.cloth import flag
from training.made.fluids import flames, smoke
from training.made.ocean import ocean
from training.made.scene import Draw
from training.made.sky import clouds, storm
from training.made.waterfall import waterfall
from training.made.weather import rain, snow

KINDS: dict[str, Draw] = {
    "ocean": ocean,
    "flames": flames,
    "smoke": smoke,
    "rain": rain,
    "snow": snow,
    "clouds": clouds,
    "flag": flag,
    "storm": storm,
    "waterfall": waterfall,
}
