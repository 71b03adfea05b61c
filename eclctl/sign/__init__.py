"""Signing, key rings and keys, and changing an image in place. Nothing here speaks to a network."""
