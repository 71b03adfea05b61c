"""Audit records, metrics, the operational log, and surveys of images and keys."""
