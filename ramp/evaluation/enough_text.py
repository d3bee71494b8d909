"""Least amount of held-out text that a comparison of methods needs."""

LEAST_WINDOWS = 12
"""Windows of held-out text: intervals over fewer are far too narrow (docs/decisions.md)."""

LEAST_TOKENS = 6_000
"""Tokens of these windows together."""


def enough_text(windows: int, length: int) -> bool:
    """Return whether so many windows of ``length`` tokens can carry a verdict or a published score."""
    return windows >= LEAST_WINDOWS and windows * length >= LEAST_TOKENS
