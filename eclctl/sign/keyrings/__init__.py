"""Rings of OpenPGP keys: the user's own and the site's, in files that are checked for owner and mode."""
