"""Every decision about precision: what step1 writes down, and what every tensor and weight becomes."""
