"""Tests with real mounts: each has a mount namespace of its own, a daemon inside it, and users who ask."""
