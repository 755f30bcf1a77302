"""What executes a step table around an engine: in NumPy, on a device, whole or in tiles."""
