"""How long a frame takes, at any size, beside other runtimes."""
