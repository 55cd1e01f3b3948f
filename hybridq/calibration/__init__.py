"""What calibration measures: statistics of every tensor, and the ranges that algorithms choose from them."""
