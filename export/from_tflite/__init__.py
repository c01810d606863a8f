"""TensorFlow Lite networks of float operations as ONNX, without TensorFlow."""
