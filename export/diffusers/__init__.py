"""Exports image pipelines of the library diffusers as bundles: one-step and few-step ones, from a local folder."""
