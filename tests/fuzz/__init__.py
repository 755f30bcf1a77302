"""A standing attack: damaged files of every kind that is read, made from seeds, and what became of them."""
