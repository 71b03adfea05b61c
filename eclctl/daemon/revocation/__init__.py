"""Keeps keys and certificates fresh: keyservers and OCSP responders."""
