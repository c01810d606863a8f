"""Signals of this process, and child processes."""
