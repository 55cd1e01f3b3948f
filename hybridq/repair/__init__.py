"""Repairs of weights and biases that cost nothing at run time: one algorithm a file.

Biases take back the mean error of rounded weights, weights are rounded together, channels share their range evenly.
"""
