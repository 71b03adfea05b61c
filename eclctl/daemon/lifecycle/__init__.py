"""Starts, reloads, reports on and stops the daemon."""
