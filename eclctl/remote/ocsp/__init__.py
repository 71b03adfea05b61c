"""Asks OCSP responders, and keeps their answers."""
