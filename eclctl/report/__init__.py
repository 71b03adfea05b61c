"""How images, keys and rules stand, as plain data and as a page that can be kept. Nothing here decides."""
