"""What stands on a disk: looked at before it is read, written whole or not at all, every fault in our words."""
