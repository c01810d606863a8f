"""Generated video as a webcam.

pip install 'everframe[cpu,webcam]'      (and a virtual camera: v4l2loopback on Linux, OBS on macOS and Windows)
python examples/webcam.py bundles/landscape
"""

import sys

import pyvirtualcam

from runtime import Generator

with (
    Generator.open(sys.argv[1]) as generator,
    pyvirtualcam.Camera(generator.width, generator.height, float(generator.fps)) as camera,
):
    for frame in generator:  # (H, W, 3) uint8 RGB, valid until the next frame is requested
        camera.send(frame)
        camera.sleep_until_next_frame()
