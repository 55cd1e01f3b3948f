"""The YAML of a cfg with the place of every key and value."""
