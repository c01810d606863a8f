"""An endless generator as a MoviePy clip, with a title on it.

pip install 'everframe[cpu]' moviepy
python examples/moviepy_clip.py bundles/landscape "a calm lake" title.mp4
"""

import sys

import numpy as np
from moviepy import CompositeVideoClip, TextClip, VideoClip

from runtime import Generator

SECONDS = 4


class GeneratedClip(VideoClip):
    """The frames of a generator in order; MoviePy may request a frame twice, but no earlier one."""

    def __init__(self, generator: Generator, seconds: float) -> None:
        self._generator = generator
        self._shown, self._picture = -1, np.empty(0, np.uint8)
        super().__init__(self._frame_at, duration=seconds)

    def _frame_at(self, time_s: float) -> np.ndarray:
        number = round(time_s * float(self._generator.fps))
        while self._shown < number:
            self._picture = next(self._generator).copy()
            self._shown += 1
        return self._picture


bundle, text, out = sys.argv[1:]
with Generator.open(bundle) as generator:
    if "text" in generator.takes:
        generator.condition(text=text)
    clip = GeneratedClip(generator, SECONDS)
    title = TextClip(text=text, font_size=24, color="white", margin=(8, 8), duration=SECONDS)
    film = CompositeVideoClip([clip, title.with_position(("center", "bottom"))])
    film.write_videofile(out, fps=float(generator.fps), codec="libx264", audio=False, logger=None)
