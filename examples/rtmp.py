"""A live stream to an RTMP server, recorded at the same time.

pip install 'everframe[cpu]'
python examples/rtmp.py bundles/landscape rtmp://live.twitch.tv/app/KEY recording.mkv 60
"""

import sys

from streaming import stream

bundle, url, recording, seconds = sys.argv[1:]
sys.exit(stream(bundle, to=[url, recording], seconds=float(seconds), preset="twitch"))
