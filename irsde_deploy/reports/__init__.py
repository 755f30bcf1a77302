"""What people look at: measurements of quality, tiles, parity and speed; what a file holds; what is installed."""
