"""The check and admin sockets: accepting, peers, permissions, lines of the protocol."""
