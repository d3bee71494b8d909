"""What a study will cost, before it runs, and what its rules ask a scheduler for."""
