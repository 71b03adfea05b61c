"""Asks keyservers (HKP) for keys, and sends keys to them."""
