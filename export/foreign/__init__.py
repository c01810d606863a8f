"""Models of other frameworks: which format a file has, and its way to ONNX."""
