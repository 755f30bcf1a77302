"""A checkpoint to ONNX: its description, the reference's options files, recipes, and the proof against PyTorch."""
