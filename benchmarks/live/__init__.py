"""Glass to glass: from the request for a frame to decoded pixels at the far end."""
