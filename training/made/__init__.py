"""Footage made from nothing: moving scenes with exact optical flow and captions, free of licences."""
