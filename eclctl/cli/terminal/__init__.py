"""What commands share at the terminal: output, options, prompts, passphrases, progress."""
