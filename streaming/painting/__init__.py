"""Pictures for a show that a bundle paints in the background, from texts and seeds."""
