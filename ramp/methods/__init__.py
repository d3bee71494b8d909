"""Kinds of methods that files in baselines/ register, and their loader."""
