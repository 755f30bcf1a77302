"""One module an engine: ONNX Runtime, OpenVINO, the faster of both, PyTorch; for TensorRT see `tensorrt/`."""
