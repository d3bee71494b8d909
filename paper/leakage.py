"""Gain by a leak of text, for tables and text: rows that saw text near the held-out text, and the study's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paper.bank_intervals import OverBanks
from paper.naming import bits_title, method_rank, method_title, model_title
from paper.study import Study
from paper.tuning import ratio, runs_over
from paper.words import shown
from ramp.assets.leakage_texts import LEVELS, NO_SEARCH

TEXTS = {
    "disjoint": "text of another source",
    "in_domain": "other documents of the held-out text's source",
    "test": "the scored windows themselves",
}
"""Level of a text -> what it is."""

ROW = ["model", "method", "budget_bits"]
CELL = ["calibration", "search"]


@dataclass(frozen=True)
class LeakLine:
    """One row in one cell."""

    model: str
    method: str
    budget_bits: float
    calibration: str
    search: str
    own: bool  # the study's own row
    kl: float  # nats per token, the mean over banks
    ratio: OverBanks | None  # over the study's own row, on the same banks and windows; None of that row itself

    @property
    def title(self) -> str:
        """The row in words."""
        return f"{method_title(self.method)} at {bits_title(self.budget_bits)} bits"

    @property
    def read(self) -> str:
        """Return what it was calibrated and searched on, in words."""
        if self.search == NO_SEARCH:
            return f"calibrated on {TEXTS[self.calibration]}"
        if self.search == self.calibration:
            return f"calibrated and searched on {TEXTS[self.calibration]}"
        return f"calibrated on {TEXTS[self.calibration]}, searched on {TEXTS[self.search]}"

    @property
    def order(self) -> tuple[object, ...]:
        """Place among the lines: by row, the study's own first, then from far to near."""
        level = {name: place for place, name in enumerate((NO_SEARCH, *LEVELS))}
        near = level[self.calibration] + level[self.search], level[self.calibration]
        return self.model, method_rank(self.method), self.budget_bits, not self.own, near


def leak_lines(study: Study) -> list[LeakLine]:
    """Return the rows of leakage.csv, draws of one cell together; none where there is no such table.

    Rows without a finite KL are left out.
    """
    lines, windows = study.frame("leakage"), study.frame("leakage_windows")
    if lines is None or windows is None:
        return []
    sums: dict[tuple[object, ...], dict[int, np.ndarray]] = {}
    tokens: dict[tuple[object, ...], float] = {}
    for (*name, bank), part in windows.groupby([*ROW, *CELL, "bank_seed"]):
        found = part.sort_values("window")["kl"].to_numpy("float64")[None]
        if np.isfinite(found).all():
            sums.setdefault(tuple(name), {})[int(bank)] = found
            tokens[tuple(name)] = float(part["tokens"].sum())
    own = {name: bool(part["own"].all()) for name, part in lines.groupby([*ROW, *CELL])}
    bars = {name[: len(ROW)]: by_bank for name, by_bank in sums.items() if own[name]}
    made = []
    for name, by_bank in sums.items():
        bar = bars.get(name[: len(ROW)])
        against = ratio(by_bank, bar) if bar and not own[name] else None
        kl = float(np.mean([each.sum() for each in by_bank.values()]) / tokens[name])
        model, method, budget, calibration, search = name
        made.append(
            LeakLine(str(model), str(method), float(str(budget)), str(calibration), str(search), own[name], kl, against)
        )
    return sorted(made, key=lambda line: line.order)


def leakage_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``leakage.runs`` and a sentence ``leakage.row.N`` for every row that was made with a leak."""
    lines = leak_lines(study)
    runs = sorted({runs_over(line.ratio) for line in lines if line.ratio})
    if not runs:
        return
    yield "leakage.runs", "; or ".join(runs)
    own = {(line.model, line.title): line for line in lines if line.own}
    for place, ((model, title), bar) in enumerate(own.items()):
        ratios = [
            f"{line.read} {shown(line.ratio.estimate, 3)}" + f" ({line.ratio.reading})" * bool(line.ratio.reading)
            for line in lines
            if (line.model, line.title) == (model, title) and line.ratio
        ]
        if ratios:
            head = f"{model_title(model)}, {title}: the study's own row is {bar.read}. KL over that of this row"
            yield f"leakage.row.{place}", f"{head}: {'; '.join(ratios)}."
