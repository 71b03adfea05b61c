"""Work off the event loop, and work on a timer."""
