"""What costs no bits: ranges by another algorithm, weights rounded otherwise, corrected biases."""
