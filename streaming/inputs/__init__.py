"""Live inputs: webcam, file, address, test card."""
