"""hybridq: mixed-precision quantization of ONNX models that finds what 8 bits break, mends it and proves it."""

__version__ = "0.1.0"
