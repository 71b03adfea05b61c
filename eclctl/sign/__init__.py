"""Signing, key rings and keys, and replacing an image by its signed successor. Nothing here speaks to a network."""
