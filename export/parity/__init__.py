"""Comparison of every engine with PyTorch: one step, and closed loops."""
