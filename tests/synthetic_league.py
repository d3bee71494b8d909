"""League, optimum and comparisons of a made-up study, for tests of tables, figures and text."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.measure import row
from tests.synthetic_records import SOURCE

WINDOWS, TOKENS = 6, 100
BANK_WINDOWS, BANK_TOKENS = 12, 511  # enough to judge on
LEVEL = {"knapsack": 1.0, "random_search": 1.5, "ramp": 0.8, "ramp_cold": 0.9}
BUDGETS = (3.25, 3.5, 4.0)


def league_records(planned: int = 17) -> dict[str, list[dict[str, Any]]]:
    """Two seeds, checkpoints at 10 and 20; the variant at one budget; the knapsack after one evaluation."""
    tables: dict[str, list[dict[str, Any]]] = {"league": [], "league_windows": [], "league_curves": []}
    hard = np.linspace(1, 2, WINDOWS)
    for budget in BUDGETS:
        for name, level in LEVEL.items():
            for seed in (0,) if name == "knapsack" else (0, 1):
                if name == "ramp_cold" and budget != 3.5:
                    continue
                run = {"model": SOURCE, "bank": "first", "grid": "affine", "budget_bits": budget, "run_evals": 20}
                run |= {"allocator": name, "seed": seed}
                method = "ramp" if name == "ramp_cold" else name
                for evals in (1,) if name == "knapsack" else (10, 20):
                    kl = level * hard * (1.0 if evals != 10 else 1.1) * (1 + 0.01 * seed) / budget
                    about = {"evals": evals, "spent": evals, "method": method, "tokens": 1000 * evals}
                    about |= {"title": "RAMP, cold" if name == "ramp_cold" else "", "kl_search": float(kl.mean())}
                    tables["league"].append({**run, **about, "kl_held": float(kl.mean()), "planned": planned})
                    for window, value in enumerate(kl):
                        line = {"evals": evals, "window": window, "tokens": TOKENS, "kl": float(TOKENS * value)}
                        tables["league_windows"].append({**run, **line})
                points = [1] if name == "knapsack" else [2 + seed, 9, 15]
                for place, evals in enumerate(points):
                    point = {"evals": evals, "is_start": False, "kl_held": level / budget * (1.2 - 0.1 * place)}
                    tables["league_curves"].append({**run, **point})
    return tables


def optimum_records() -> dict[str, list[dict[str, Any]]]:
    rows = []
    for name, gaps in (("knapsack", (0.02,)), ("ramp", (0.0, 0.004))):
        for seed, gap in enumerate(gaps):
            for evals in (1,) if name == "knapsack" else (100, 300):
                rows.append(
                    {
                        "model": SOURCE, "units": "halves-8", "budget_bits": 3.5, "allocator": name, "evals": evals,
                        "seed": seed, "title": "", "spent": evals, "kl": 0.1 * (1 + gap), "kl_optimum": 0.1,
                        "gap": 0.1 * gap, "gap_share": gap, "better": int(1000 * gap), "allocations": 32_768,
                        "note": "", "command": "python -m ramp.optimum --units halves-8",
                    }
                )  # fmt: skip
    additive = [{"model": SOURCE, "units": "halves-8", "bits": 3, "kl_sum": 0.2, "kl_joint": 0.25, "ratio": 1.25}]
    return {"optimum": rows, "additivity": additive}


BENCHMARKS = [
    row("GPTQ of a block: time", 2.0, 8.0, "processor s", "python -m benchmarks.gptq_block"),
    row("7B: peak memory", 5.5e9, 13.5e9, "bytes", "python -m benchmarks.memory", "mapped pages included"),
    row("7B: time", 40_000.0, 3750.0, "processor s", "python -m benchmarks.memory", "extrapolated"),
]


def parity_row(**other: Any) -> dict[str, Any]:
    """A row of parity.csv."""
    return {
        "method": "gptq", "reference": "gptqmodel 7.6.0", "model": SOURCE, "bits": 3, "group_size": 64,
        "symmetric": False, "settings": "equal", "kl_ours": 0.10, "kl_reference": 0.20, "ratio": 0.5,
        "error_measure": "linears", "error_ours": 1.0, "error_reference": 1.0, "error_ratio": 1.0, "note": "",
        "command": "python -m benchmarks.parity",
    } | other  # fmt: skip


PARITY = [
    parity_row(),
    parity_row(bits=4, ratio=1.03, kl_ours=0.103, kl_reference=0.1),
    parity_row(bits=5, ratio=0.9, error_ratio=1.04),
    parity_row(bits=4, settings="damping 0.05", ratio=9.0),
    parity_row(bits=2, ratio=None, kl_ours=None, kl_reference=None, error_ratio=None, note="it has no width of 2 bits"),
]


def bank_records(banks: int = 5, model: str = SOURCE) -> dict[str, list[dict[str, Any]]]:
    """The knapsack, a rival 10 % better on every bank, and a uniform row; banks differ by a tenth, windows twofold.

    On banks other than 0 the knapsack's first allocation has rows of its own, which differ half as much.
    """
    tables: dict[str, list[dict[str, Any]]] = {"banks": [], "banks_windows": []}
    hard = np.linspace(1, 2, BANK_WINDOWS)
    shift = np.linspace(-0.1, 0.1, banks) if banks > 1 else np.zeros(1)
    for bank in range(banks):
        lines = [("knapsack", bank, 0, 0.2 * (1 + shift[bank])), ("awq_gptq", bank, 0, 0.3)]
        lines += [("ramp", bank, seed, 0.18 * (1 + shift[bank]) * (1 + 0.01 * seed)) for seed in (0, 1)]
        if bank:
            lines.append(("knapsack", 0, 0, 0.2 * (1 + shift[0]) * (1 + 0.05 * bank)))
        for method, allocation_bank, seed, level in lines:
            key = {"model": model, "method": method, "budget_bits": 3.5, "bank_seed": bank}
            key |= {"allocation_bank": allocation_bank, "search_seed": seed}
            kl, bar = level * hard, 0.2 * (1 + shift[bank]) * hard.mean()
            about = {"title": "", "kl": float(kl.mean()), "kl_knapsack": float(bar), "ratio": float(kl.mean() / bar)}
            tables["banks"].append({**key, **about, "n_windows": BANK_WINDOWS, "length": BANK_TOKENS + 1})
            for window, value in enumerate(kl):
                tables["banks_windows"].append(
                    {**key, "window": window, "tokens": BANK_TOKENS, "kl": float(BANK_TOKENS * value)}
                )
    return tables


def search_records(
    *ratios: float, model: str = SOURCE, budget: float = 3.65, windows: int = BANK_WINDOWS
) -> dict[str, list[dict[str, Any]]]:
    """The knapsack and one search of RAMP on a bank for each ratio of their KLs; banks and windows scatter."""
    tables: dict[str, list[dict[str, Any]]] = {"banks": [], "banks_windows": []}
    rng = np.random.default_rng(0)
    hard = rng.uniform(1, 2, windows)
    for bank, ratio in enumerate(ratios):
        knapsack = rng.uniform(0.15, 0.25) * hard
        for method, kl in (("knapsack", knapsack), ("ramp", ratio * knapsack)):
            key = {"model": model, "method": method, "budget_bits": budget, "bank_seed": bank}
            key |= {"allocation_bank": bank, "search_seed": 0}
            about = {"kl": float(kl.mean()), "kl_knapsack": float(knapsack.mean()), "ratio": ratio}
            tables["banks"].append({**key, **about, "n_windows": windows, "length": BANK_TOKENS + 1})
            for window, value in enumerate(kl):
                tables["banks_windows"].append(
                    {**key, "window": window, "tokens": BANK_TOKENS, "kl": float(BANK_TOKENS * value)}
                )
    return tables
