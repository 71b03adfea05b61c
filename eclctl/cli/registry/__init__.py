"""`eclctl pull` and `eclctl push`."""
