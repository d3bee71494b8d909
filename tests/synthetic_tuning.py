"""Made-up rows with tuned scales, with the shape of what ``ramp.records.collect_tuning`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.synthetic_records import SOURCE

ROWS = {  # method, bits: (mixed, bytes of linears, KL before, KL after)
    ("rtn", 4.0): (False, 400, 0.40, 0.20),
    ("awq_gptq", 3.0): (False, 300, 0.50, 0.25),
    ("awq_gptq", 4.0): (False, 400, 0.20, 0.16),
    ("knapsack", 3.65): (True, 365, 0.18, 0.16),
    ("knapsack", 4.0): (True, 400, 0.14, 0.14),
}
WINDOWS, TOKENS = 12, 255


def tuning_records(model: str = SOURCE, banks: Sequence[int] = (0,)) -> dict[str, list[dict[str, Any]]]:
    """Both tables: KLs as in ``ROWS`` on average over windows, banks and windows a little apart."""
    lines, windows = [], []
    for (method, bits), (mixed, size, before, after) in ROWS.items():
        for bank in banks:
            rng = np.random.default_rng(bank)  # the same for all rows: differences between windows are shared
            spread = 1 + 0.2 * rng.standard_normal(WINDOWS)
            spread /= spread.mean()
            key = {"model": model, "method": method, "budget_bits": bits, "grid": "affine", "bank_seed": bank}
            key |= {"row_seed": 0, "seed": 0}
            lines.append(
                key
                | {"mixed": mixed, "steps": 60, "rate": 1e-3, "tokens": 61_440, "wall_s": 300.0, "bytes_linear": size}
                | {"kl_before": before, "kl_after": after, "ratio": after / before, "ratio_low": 0.9 * after / before}
                | {"ratio_high": 1.1 * after / before, "n_windows": WINDOWS, "length": TOKENS + 1, "dtype": "float32"}
                | {"commit": "c", "hardware": "a processor"}
            )
            windows += [
                key | {"tuned": tuned, "window": i, "tokens": TOKENS, "nll": 1.0, "kl": kl * TOKENS * spread[i]}
                for tuned, kl in ((False, before), (True, after))
                for i in range(WINDOWS)
            ]
    return {"tuning": lines, "tuning_windows": windows}
