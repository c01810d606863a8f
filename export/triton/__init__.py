"""Writes model repositories for NVIDIA Triton Inference Server; not yet run on a Triton server."""
