"""Where work runs: processes that are replaced when they die, and never outlive the command."""
