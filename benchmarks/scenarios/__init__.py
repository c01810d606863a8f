"""Long and hostile shows: soak, endurance, reconnects, attack."""
