"""Bytes in, cryptographic facts or failures out. Nothing here knows a policy, a path or the time of day."""
