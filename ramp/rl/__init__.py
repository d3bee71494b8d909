"""Reinforcement learning: environment, replay, SAC, policy, critic."""
