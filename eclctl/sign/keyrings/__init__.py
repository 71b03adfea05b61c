"""Rings of OpenPGP keys, one's own and the site's: what is in them, and files that only their owner reads."""
