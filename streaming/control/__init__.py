"""The show is controlled: from the page and API, and by cues."""
