"""Bundles: manifest, graph checks, files."""
