"""What a folder holds: ``model.json`` and ``weights.data``, read, checked and written."""
