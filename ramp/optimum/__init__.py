"""The exact optimum of a small problem."""
