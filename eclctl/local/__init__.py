"""Decides and reports without a daemon, from the site's configuration and policies."""
