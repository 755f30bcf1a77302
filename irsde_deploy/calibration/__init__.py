"""INT8: states along the trajectory, ranges, which layers, and the quantised graph."""
