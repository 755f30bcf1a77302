"""The PyTorch side: checkpoints, networks, export to ONNX, parity. Needs the extra `export`."""
