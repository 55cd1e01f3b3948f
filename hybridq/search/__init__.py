"""What the search is made of: damage, growing graphs, the additive model, costs, the knapsack, repair."""
