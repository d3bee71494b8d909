"""Model families as data, checkpoint folders, tokens of a text."""
