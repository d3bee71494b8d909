"""Rows of other people's packages, each in an environment of its own."""
