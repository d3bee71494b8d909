"""Additive sensitivities of a bank's entries."""
