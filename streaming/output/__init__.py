"""Frames to sinks: pacing, fan-out, repeated frames."""
