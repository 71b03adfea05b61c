"""`eclctl sign`."""
