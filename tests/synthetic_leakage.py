"""Made-up rows of the leakage meter, with the shape of what ``ramp.records.collect_leakage`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.synthetic_records import SOURCE

CELLS = {  # method, bits, calibration, search: (the study's own, KL)
    ("awq_gptq", 4.0, "disjoint", "none"): (True, 0.20),
    ("awq_gptq", 4.0, "test", "none"): (False, 0.18),
    ("knapsack", 3.65, "disjoint", "in_domain"): (True, 0.16),
    ("knapsack", 3.65, "disjoint", "test"): (False, 0.16),
    ("knapsack", 3.65, "test", "test"): (False, 0.12),
}
WINDOWS, TOKENS = 12, 255


def leakage_records(model: str = SOURCE, banks: Sequence[int] = (0,)) -> dict[str, list[dict[str, Any]]]:
    """Both tables: KLs as in ``CELLS`` on average over windows; that of (disjoint, test) differs by noise alone."""
    lines, windows = [], []
    for (method, bits, calibration, search), (own, kl) in CELLS.items():
        for bank in banks:
            rng = np.random.default_rng(bank)  # the same for all rows: differences between windows are shared
            spread = 1 + 0.2 * rng.standard_normal(WINDOWS)
            if (calibration, search) == ("disjoint", "test"):
                spread += 0.1 * np.random.default_rng(100 + bank).standard_normal(WINDOWS)
            sums = kl * TOKENS * spread / spread.mean()
            key = {"model": model, "method": method, "budget_bits": bits, "calibration": calibration, "search": search}
            key |= {"bank_seed": bank, "row_seed": 0}
            bar = next(each for (m, *_), (is_own, each) in CELLS.items() if m == method and is_own)
            ratio = {} if own else {"ratio": kl / bar, "ratio_low": 0.9 * kl / bar, "ratio_high": 1.1 * kl / bar}
            lines.append(
                key
                | {"own": own, "text": "heldout", "kl": kl, "kl_low": 0.9 * kl, "kl_high": 1.1 * kl, **ratio}
                | {"n_windows": WINDOWS, "length": TOKENS + 1, "bytes_linear": 365, "dtype": "float32"}
                | {"commit": "c", "hardware": "a processor"}
            )
            windows += [key | {"window": i, "tokens": TOKENS, "nll": 1.0, "kl": float(sums[i])} for i in range(WINDOWS)]
    return {"leakage": lines, "leakage_windows": windows}
