"""Every decision about precision: what step1 writes down, and what every tensor and weight becomes.

``record`` makes the entries that the cfg shows; ``plan`` takes a checked cfg and decides the rest: shared precisions,
conversions, padding, barriers, each with its reason. After this nothing decides.
"""
