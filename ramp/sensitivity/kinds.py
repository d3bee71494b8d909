"""The kinds of additive sensitivities that an allocator may name, and the module that computes each."""

from __future__ import annotations

SENSITIVITIES = {
    "fisher": "ramp.sensitivity.fisher",
    "error": "ramp.sensitivity.weight_error",
    "error_plain": "ramp.sensitivity.weight_error",
    "kl": "ramp.sensitivity.measured_kl",
    "kl_cheapest": "ramp.sensitivity.measured_kl",
}
"""Kind -> the module whose ``measure`` computes it, for ``python -m ramp.sensitivity --kind KIND``."""

DEFAULT = "fisher"
"""The kind whose file is named by the bank alone."""


def file_name(kind: str, bank: str) -> str:
    """Return the name of a kind's file in R/sensitivity/{model} for the bank ``{fold}-{quantizer}``."""
    return f"{bank}.json" if kind == DEFAULT else f"{bank}-{kind}.json"
