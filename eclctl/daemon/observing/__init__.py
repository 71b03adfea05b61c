"""What the daemon tells: audit records, metrics, the log, surveys of images."""
