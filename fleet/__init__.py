"""Many shows on many machines: Ray places them and starts them again; this package says where each one goes on."""
