"""The plan, obeyed: the mixed-precision ONNX model."""
