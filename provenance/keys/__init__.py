"""Signing keys: a development chain, and checks of the key and the certificates that a user has."""
