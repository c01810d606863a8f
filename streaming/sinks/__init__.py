"""Where frames go: one file each, and the table of them all."""
