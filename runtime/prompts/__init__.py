"""Prompts become scenes: text, images, clips and seeds to the inputs of the condition graph."""
