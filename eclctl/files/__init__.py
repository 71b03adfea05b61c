"""Files of a host: opening names, mounts, trusted paths, sandboxes, walks, and writing files safely."""
