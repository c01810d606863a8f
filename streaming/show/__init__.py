"""One show from the first frame to the last: generator, fallback, stats, status."""
