"""Policy, trust and image make a decision. No event loop, no sockets, no clock of its own."""
