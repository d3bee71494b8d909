"""The allocation problem: linears, widths, bytes, budget, features and evaluators."""
