"""What a choice of precisions does to the model's outputs: one quantizer alone, many in one graph, all joined."""
