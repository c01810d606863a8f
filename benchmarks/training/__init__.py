"""How fast footage is loaded and pretraining runs."""
