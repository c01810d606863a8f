"""A person before a generated picture: the matte, and the blend."""
