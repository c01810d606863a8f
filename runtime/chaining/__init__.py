"""The parts of a chain of generators: its links, their inputs, and the rules for them."""
