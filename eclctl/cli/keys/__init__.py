"""`eclctl keys`: a module for each of its commands."""
