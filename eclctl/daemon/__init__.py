"""The long-running daemon: sockets, watching, audit log, metrics, service life."""
