"""The sound of a show."""
