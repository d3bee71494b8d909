"""Costs of a study before it runs, and resources that its rules ask a scheduler for."""
