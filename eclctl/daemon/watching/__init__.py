"""Watches image directories and examines what changes, ahead of questions."""
