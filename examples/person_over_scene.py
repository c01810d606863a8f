"""A video of a person, put over a moving scene, with the video's own sound.

pip install 'everframe[cpu]'
python examples/person_over_scene.py bundles/landscape bundles/person talk.mp4 talk-lake.mp4 20
"""

import sys

from streaming import stream

bundle, matte, video, out, seconds = sys.argv[1:]
sys.exit(
    stream(
        bundle,
        to=[out],
        seconds=float(seconds),
        input=video,
        matte=matte,
        sound="input",
        control={"matte.feather": 0.6},
    )
)
