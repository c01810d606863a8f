"""Live streams: encoders, processes that encode and send, and what RTMP, HLS, SRT and WHIP have in common."""
