"""From a request to a decision: calls, checks, request time-outs, answer lines."""
