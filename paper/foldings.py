"""The folds' ablation as tables and claims read it: rows of one quantizer on one fold after the other, paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paper.intervals import exponential, paired_difference, paired_ratio
from paper.naming import method_rank, method_title, model_title
from paper.study import Study
from ramp.evaluation.bootstrap import Estimate
from ramp.methods.names import FLOAT
from ramp.records.schema import FOLD_NAMES

if TYPE_CHECKING:
    import pandas as pd

PLAIN = "none"
NORMS = "attn_in mlp_in"

FOLD_MARK = " (folds' ablation)"
"""Ends the names of the ablation's rows in claims.json."""


@dataclass(frozen=True)
class FoldRow:
    """One row of folding.csv with its windows."""

    line: dict[str, Any]
    kl: np.ndarray  # [1, windows], sums over a window's tokens, nats
    nll: np.ndarray  # [1, windows]
    tokens: np.ndarray  # [windows]

    @property
    def fold_title(self) -> str:
        """The fold in words."""
        kind, alpha, sites = (self.line[name] for name in ("kind", "alpha", "sites"))
        if kind == "smoothquant":
            return f"SmoothQuant, α = {alpha:g}"
        if kind == "awq":
            return "AWQ search, norms alone" if sites == NORMS else "AWQ search"
        return "none" if kind == PLAIN else str(self.line["fold"])

    @property
    def method_title(self) -> str:
        """The quantizer in words."""
        title = self.line["title"]
        return title if isinstance(title, str) and title else method_title(self.line["method"])

    def against(self, plain: FoldRow) -> tuple[Estimate | None, Estimate | None]:
        """Return (KL ratio, perplexity ratio) to another row, paired over windows; None where sums are missing."""
        if not np.array_equal(self.tokens, plain.tokens):
            return None, None
        kl = nll = None
        if all(np.isfinite(row.kl).all() for row in (self, plain)) and plain.kl.sum() > 0:
            kl = paired_ratio(self.kl, plain.kl, self.tokens)
        if all(np.isfinite(row.nll).all() for row in (self, plain)):
            nll = exponential(paired_difference(self.nll, plain.nll, self.tokens))
        return kl, nll


class Foldings:
    """The ablation's records of a study; no rows where there are none."""

    def __init__(self, study: Study) -> None:
        frame, windows = study.frame("folding"), study.frame("folding_windows")
        self.rows = [] if frame is None or windows is None else _rows(frame, windows)

    def plain(self, row: FoldRow) -> FoldRow | None:
        """Return the row of the same model, quantizer and width without a fold."""
        same = ("model", "method", "bits", "group_size")
        found = (r for r in self.rows if r.line["kind"] == PLAIN and all(r.line[n] == row.line[n] for n in same))
        return next(found, None)

    def quantized(self) -> list[FoldRow]:
        """Return the quantized rows by model, width, quantizer, then no fold, SmoothQuant by alpha, AWQ."""
        kinds = {PLAIN: 0, "smoothquant": 1, "awq": 2}

        def rank(row: FoldRow) -> tuple[Any, ...]:
            line = row.line
            alpha = line["alpha"] if line["kind"] == "smoothquant" else 0.0
            place = (kinds.get(line["kind"], 3), alpha, line["sites"] != NORMS, line["fold"])
            return (line["model"], line["bits"], *method_rank(line["method"]), *place)

        return sorted((row for row in self.rows if row.line["method"] != FLOAT), key=rank)

    def alone(self, row: FoldRow) -> float | None:
        """Return the KL of the float model with this row's fold in its weights and nothing quantized."""
        same = ("model", "file")
        for other in self.rows:
            if other.line["method"] == FLOAT and all(other.line[name] == row.line[name] for name in same):
                return float(other.kl.sum() / other.tokens.sum())
        return None


def _rows(frame: pd.DataFrame, windows: pd.DataFrame) -> list[FoldRow]:
    groups = {name: part.sort_values("window") for name, part in windows.groupby(list(FOLD_NAMES))}
    found = []
    for line in frame.to_dict("records"):
        part = groups.get(tuple(line[name] for name in FOLD_NAMES))
        if part is not None:
            kl, nll, tokens = (part[name].to_numpy("float64") for name in ("kl", "nll", "tokens"))
            line["sites"] = line["sites"] if isinstance(line["sites"], str) else ""
            found.append(FoldRow(line, kl[None], nll[None], tokens))
    return found


def folding_ratios(
    study: Study, kinds: Sequence[str], alpha: float, below: float = 4
) -> Iterator[tuple[str, Estimate, tuple[str, ...]]]:
    """Yield the perplexity of folded over unfolded rows under ``below`` bits: label, paired ratio, rows.

    Of SmoothQuant's grid only ``alpha`` counts: the best of a grid would be chosen on the text that judges it.
    """
    foldings = Foldings(study)
    for row in foldings.quantized():
        line = row.line
        if line["bits"] >= below or line["kind"] not in kinds or line["kind"] == PLAIN:
            continue
        if line["kind"] == "smoothquant" and line["alpha"] != alpha:
            continue
        plain = foldings.plain(row)
        ratio = row.against(plain)[1] if plain else None
        if plain and ratio:
            where = f"{model_title(line['model'])}, {row.method_title}, {line['bits']} bits"
            names = tuple(
                f"{r.line['model']}/{r.line['method']}-b{r.line['bits']} on {r.line['file']}{FOLD_MARK}"
                for r in (row, plain)
            )
            yield f"perplexity ratio, {row.fold_title} to no fold, {where}", ratio, names
