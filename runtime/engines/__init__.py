"""Engines: what runs a graph on a CPU or GPU, chosen from one table."""
