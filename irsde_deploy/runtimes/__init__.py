"""Engines, which evaluate the score network, and the loops around them."""
