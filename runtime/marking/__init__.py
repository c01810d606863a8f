"""The mark: a payload that is hidden in the brightness of every frame."""
