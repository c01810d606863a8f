"""Which scene plays, cross-fades, and scenes that renew themselves."""
