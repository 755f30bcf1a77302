"""Picture formats, each in a module: what a file says of itself, its pixels, and what is written beside them."""
