"""`eclctl sif`: a module for each of its commands."""
