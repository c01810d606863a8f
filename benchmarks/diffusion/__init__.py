"""Pipelines of diffusers at real size."""
