"""The show's sound: where it comes from, its place in time, and its encoding."""
