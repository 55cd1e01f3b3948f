"""Numbers and their words: precisions, parameters, quantize and dequantize, metrics. Pure, below everything."""
