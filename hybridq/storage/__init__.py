"""What a folder holds, and how it is written whole or not at all."""
