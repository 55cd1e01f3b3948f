"""What step 1 measures on its own, without being asked for a search: range algorithm, repairs, a loop's precisions."""
