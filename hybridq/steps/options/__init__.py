"""What may be asked of the steps: every option with its default, its limits and its help, refused where it is wrong."""
