"""Endless clips: a clip that plays on for ever with its own frames and motion."""
