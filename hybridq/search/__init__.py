"""Which layers need more bits: damage, growing graphs, the additive model, costs, the knapsack, repair.

Every quantizer is measured alone at the model's outputs; noise nearly adds, so a knapsack proposes and the joint model
decides. ``docs/search.md`` tells it as a story.
"""
