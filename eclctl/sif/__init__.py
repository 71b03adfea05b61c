"""The SIF format: header, descriptors and data objects, bounded readers over an open file, and OCI-SIF."""
