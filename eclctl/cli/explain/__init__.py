"""`eclctl explain`."""
