"""The pixel stage: a picture of any size and the moves of its parts, to a frame."""
