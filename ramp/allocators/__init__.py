"""Ways to spend a byte budget on additive scores: exact knapsack and greedy."""
