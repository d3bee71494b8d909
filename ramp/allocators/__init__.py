"""Allocators without learning: knapsack, greedy, local moves."""
