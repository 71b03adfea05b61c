"""Bounded readers over an open file, and what a file's identity is worth."""
