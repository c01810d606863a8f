"""Says whether a video was made by Everframe: reads the mark that every frame carries.

from verify import read_mark

for finding in read_mark(frames):      # uint8 (H, W, 3) RGB, or (H, W) brightness
    print(finding.payload, finding.confidence)
"""

from verify.finding import Finding
from verify.mark_reader import MarkReader, read_mark

__all__ = ["Finding", "MarkReader", "read_mark"]
