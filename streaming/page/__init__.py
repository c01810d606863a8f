"""The page: the control room, its API, and the live picture in the browser."""
