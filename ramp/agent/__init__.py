"""RAMP's agent: what it proposes, learns and chooses."""
