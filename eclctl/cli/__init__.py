"""The command line: argument parsing and output only. `check` must start fast, so nothing is imported here."""
