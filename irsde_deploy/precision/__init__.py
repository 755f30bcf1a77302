"""FP16 and mixed precision: which nodes stay in FP32, and what that costs, measured on whole trajectories."""
