"""The check and admin sockets: connections, callers and admins, permissions, lines of the protocol, time-outs."""
