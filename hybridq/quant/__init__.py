"""Numbers and their words: precisions, parameters, quantize and dequantize, metrics. Pure, below everything.

The formula of a zero point, the range of a type, an entry's way to its parameters: each stands here once.
"""
