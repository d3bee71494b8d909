"""Made-up noise floor, with the shape of what ``ramp.records.collect_noise`` writes."""

from __future__ import annotations

from typing import Any

from ramp.scoring.noise_variations import VARIATIONS
from tests.synthetic_records import SOURCE

KL = {"fast_arithmetic": 2e-11, "fast_two_threads": 3e-11, "bfloat16": 4e-4}
"""Variation -> KL; 0 of the others."""


def noise_records(model: str = SOURCE) -> dict[str, list[dict[str, Any]]]:
    """The table of one model."""
    return {
        "noise": [
            {"model": model, "what": name, "kl": KL.get(name, 0.0), "kl_max": 2 * KL.get(name, 0.0)}
            | {"unit": "nats per token", "ppl_ratio": 1 + KL.get(name, 0.0), "n_windows": 12}
            | {"dtype": found.dtype or "float32"}
            for name, found in VARIATIONS.items()
        ]
    }
