"""The GPU, or the CPU in its place: drivers, kernels, arrays, and what an engine must do there."""
