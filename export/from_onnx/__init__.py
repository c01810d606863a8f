"""Import of an existing ONNX model as a bundle."""
