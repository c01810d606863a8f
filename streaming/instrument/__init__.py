"""A show that is played like an instrument: by sound, OSC and MIDI."""
