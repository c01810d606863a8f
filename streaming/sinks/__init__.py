"""Sinks, one file each, and their table."""
