"""`eclctl status` and `eclctl reload`."""
