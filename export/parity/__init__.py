"""Every engine is compared with PyTorch, step by step and over closed loops."""
