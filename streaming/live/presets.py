"""What streaming services require of a stream. Adding one = one line in `PRESETS`.

Twitch: Broadcast Requirements and Broadcast Recommendations (help.twitch.tv, twitch.tv/creatorcamp): strict CBR, a key
frame every 2 s, 3 to 6 Mbit/s, profile main, AAC-LC at 128 kbit/s. YouTube: Choose live encoder settings
(support.google.com/youtube/answer/2853702): recommended rates for H.264, a key frame every 2 s, AAC at 128 kbit/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

_FAST = 35  # frames per second; services treat a faster stream as one of 60


@dataclass(frozen=True)
class Preset:
    """What a service requires.

    Args:
        rates: (lines at most, kbit/s up to 35 frames per second, kbit/s above), fewest lines first.
        audio_kbits: bit rate of the audio track in kbit/s.
        profile: of H.264.
    """

    rates: tuple[tuple[int, int, int], ...]
    audio_kbits: int
    profile: str

    def bitrate(self, height: int, fps: Fraction) -> int:
        """Return the video's bit/s for frames of `height` lines; for more lines than in the table, its last entry."""
        line = next((line for line in self.rates if height <= line[0]), self.rates[-1])
        return 1000 * line[2 if fps > _FAST else 1]


PRESETS: Mapping[str, Preset] = {
    "twitch": Preset(((720, 3000, 4500), (1080, 4500, 6000)), 128, "main"),
    "youtube": Preset(((720, 4000, 6000), (1080, 10_000, 12_000), (1440, 15_000, 24_000)), 128, "high"),
}
