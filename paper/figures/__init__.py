"""Figures from the records: one file per figure, each a function of the study that returns a matplotlib figure."""
