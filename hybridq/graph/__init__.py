"""The given model: made canonical, understood as layers and groups, run, cut, written.

What every ONNX operator means for quantization is one table in ``operators``; who writes, who reads and which names are
free is asked in ``edit``. Everything above works on the canonical graph and on this view of it.
"""
