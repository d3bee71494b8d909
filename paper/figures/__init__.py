"""Figures from the records: one file per figure, each a function of the study that returns a matplotlib figure."""

FIGURES = ("pareto", "claims", "allocation", "learning", "outliers", "transfer", "anytime", "optimum", "frontier")
"""Names of the figures; each is a function in a module of its name."""
