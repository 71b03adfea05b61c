"""Pulls images from OCI registries, and pushes them."""
