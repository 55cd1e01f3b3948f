"""Parts of the plan: what becomes of weights and biases."""
