"""Keys as a site has them, and their judgement at a given time."""
