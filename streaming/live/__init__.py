"""Live streams: encoders, publisher processes, and what RTMP, HLS, SRT and WHIP share."""
