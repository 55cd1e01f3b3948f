"""What calibration measures: statistics of every tensor, and the ranges that algorithms choose from them.

One pass over the samples in constant memory: exact minimum and maximum of every element, a histogram of some. Parts
that workers measured add up to the same bytes. Without samples, BatchNorm and interval arithmetic say what is known.
"""
