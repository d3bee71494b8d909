"""Rows of transfer.csv: the share of the gap between random and searched allocations that a transferred policy closes.

On one target, budget and text: 0 is the target's own random search (the best of a few random allocations, mean
over its seeds), 1 its own Fisher knapsack, which sees the target's gradients. Both, and the transferred row, are
final rows of the same bank, fold and budget in bytes:

    gap_closed = (KL_random - KL_transfer) / (KL_random - KL_knapsack)

with an interval from one bootstrap over the windows of all three. Above 1 the policy beat the knapsack; where
the knapsack does not beat random search there is no gap, and the number is left empty with a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ramp.core.atomic_files import finite
from ramp.evaluation.bootstrap import mean_kl, paired
from ramp.methods.names import BAR, trained_by
from ramp.records.table import RecordsError

Row = dict[str, Any]

FLOOR = ("random_search", "random")
CEILING = BAR


def gap(transfer: Any, random: Any, knapsack: Any) -> Any:
    """Return the share of the gap that is closed; NaN where there is no gap."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(random > knapsack, (random - transfer) / (random - knapsack), np.nan)


def transfer_rows(metrics: Sequence[Mapping[str, Any]], source: str) -> list[Row]:
    """Return a line per transferred row and text; a number that lacks a rival is empty and the note names the rival."""
    found = []
    for moved in metrics:
        method = moved["key"]["method"]
        if trained_by(method) is None:
            continue
        if not source:
            raise RecordsError(f"row {method} of {moved['key']['model']} was transferred: name its --source")
        for text in moved["texts"]:
            found.append(_row(moved, metrics, text, source))
    return found


def _rivals(moved: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], methods: Sequence[str], text: str) -> list:
    """Return the windows of rows of ``methods`` on the same model, fold, grid, stage, budget and groups, all seeds."""
    same = ("model", "grid", "stage", "budget_bits", "group_size", "fold")
    return [
        other["texts"][text]["windows"]
        for other in metrics
        if other["key"]["method"] in methods
        and text in other["texts"]
        and all(other["key"][name] == moved["key"][name] for name in same)
    ]


def _row(moved: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], text: str, source: str) -> Row:
    key = moved["key"]
    policy = trained_by(key["method"]) or key["method"]
    own = moved["texts"][text]["windows"]
    random, knapsack, native = (_rivals(moved, metrics, names, text) for names in (FLOOR, (CEILING,), (policy,)))
    row = {"source": source, "target": key["model"], "budget_bits": key["budget_bits"], "policy": policy}
    row |= {"seed": key["seed"], "text": text, "n_windows": len(own), "kl_transfer": moved["texts"][text]["kl"]}
    row |= {"kl_random": _mean(random), "kl_knapsack": _mean(knapsack), "kl_native": _mean(native)}
    absent = [name for name, rows in ((FLOOR[0], random), (CEILING, knapsack)) if not rows]
    if absent:
        return {**row, "note": f"no {' and no '.join(absent)} row of {key['model']} at this budget"}
    n_random = len(random)

    def statistic(transferred: Any, *others: Any) -> Any:
        kls = [mean_kl(sums) for sums in others]
        return gap(mean_kl(transferred), sum(kls[:n_random]) / n_random, sum(kls[n_random:]) / len(knapsack))

    share = paired([own, *random, *knapsack], statistic)
    row |= {"gap_closed": finite(share.value), "ci_low": finite(share.low), "ci_high": finite(share.high)}
    if row["gap_closed"] is None:
        row["note"] = "the knapsack does not beat random search here: there is no gap to close"
    elif row["ci_low"] is None:
        row["note"] = "no interval: in some resamples the knapsack does not beat random search"
    return row


def _mean(rows: Sequence[Sequence[Mapping[str, Any]]]) -> float | None:
    """Return the mean over rows of their KL per token."""
    if not rows:
        return None
    return finite(float(paired(rows, lambda *sums: sum(mean_kl(each) for each in sums) / len(sums), resamples=1).value))
