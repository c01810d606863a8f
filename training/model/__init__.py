"""The generator, the discriminators and their layers."""
