"""Any given model becomes the canonical float graph: one set of operators, written out, folded, dequantized."""
