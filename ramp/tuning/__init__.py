"""Scales and norm gains trained by KL to the float model, codes frozen: the part that both grids share."""
