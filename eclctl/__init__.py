"""eclctl: decides, for an HPC site, whether a container image may run."""

__version__ = "0.1.0"
