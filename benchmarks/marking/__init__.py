"""How well the mark of frames is found after what happens to videos, what it costs, and what removes it."""
