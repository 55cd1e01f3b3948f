"""The given model: made canonical, understood as layers and groups, run, cut, written."""
