"""Repairs of weights and biases that cost nothing at run time: one algorithm a file."""
