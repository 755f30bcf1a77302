"""ONNX graphs without PyTorch: files with a card, how nodes are written, what CPUs compute fastest, whole loops."""
