"""Memory that large weights take: import, open, and the first frames."""
