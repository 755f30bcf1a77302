"""Training: settings, data, objectives, the trainer, a run and its folder, validation."""
