"""What everything else is made of, with NumPy alone: SDEs, step tables, noise, settings, the model card, tiles."""
