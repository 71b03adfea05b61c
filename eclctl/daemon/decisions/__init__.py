"""From a request to a decision: callers, checks, rendered answers."""
