"""The plan, obeyed: the mixed-precision ONNX model.

Reads the plan and writes nodes, top to bottom; has no condition on a precision, a kernel or a target of its own.
Weights are made and written one at a time, so that memory holds one tensor and not the model.
"""
