"""`eclctl verify`."""
