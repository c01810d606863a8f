"""The control of a show: from the page, the HTTP API, and timed cues."""
