"""Which layers get the bits: the additive model, the knapsack on it, costs, and sets made smaller, cheaper, faster."""
