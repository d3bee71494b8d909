"""Metrics of rows on held-out text and on tasks."""
