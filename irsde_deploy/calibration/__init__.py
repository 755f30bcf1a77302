"""INT8: states along the sampling trajectory, ranges of activations on them, quantised graphs, layers' costs."""
