"""Allocators over banks: final rows on several draws of calibration text, compared within a bank."""

from __future__ import annotations

from paper.bank_intervals import FEW_BANKS, LEAST_BANKS, LITTLE_TEXT
from paper.banks import Banks, league_over_banks
from paper.league import League
from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from ramp.evaluation.enough_text import LEAST_TOKENS, LEAST_WINDOWS
from ramp.methods.names import BAR

FEW = (
    "Of one bank there is no interval over banks: its numbers are one draw of rounding and calibration text, and a "
    "difference between methods may be that draw's."
)
"""Footnote where a line rests on one bank."""


NOT_ENOUGH = (
    f"Few banks: of fewer than {LEAST_BANKS} no reading is given. The interval of so few rests on their being normal; "
    "their range holds the median of n draws with a chance of 1 - 2^(1-n): 50 % of two, 94 % of five."
)
"""Footnote where a line rests on two to four banks."""

TOO_LITTLE = f"Little text: fewer than {LEAST_WINDOWS} windows, or {LEAST_TOKENS:,} tokens in all, give no reading."
"""Footnote where a line rests on too little held-out text."""


def banks_table(study: Study) -> Table:
    """Return a line per model, budget and method."""
    banks = Banks(study)
    rows, runs, alone = [], set(), False
    for model in banks.models:
        for budget in banks.budgets(model):
            for method in banks.methods(model, budget):
                level, ratio = banks.level(model, budget, method), banks.ratio(model, budget, method)
                if level is None:
                    continue
                for found in (level, ratio):
                    if found is not None:
                        alone |= found.banks < 2
                        runs |= {found.runs_over}
                cells = {
                    "model": model_title(model),
                    "budget": f"{budget:g}",
                    "method": banks.title(method),
                    "banks": str((ratio or level).banks),
                    "seeds": " or ".join(str(count) for count in level.seeds),
                    "kl": level.estimate,
                    "ratio": ratio.estimate if ratio else None,
                    "reading": ratio.reading if ratio else "",
                    "kept": str(banks.sides(model, budget, method).count(0) or "") if ratio else "",
                    "spread": banks.spread(model, budget, method),
                    "floor": banks.spread(model, budget, method, one_allocation=True),
                }
                rows.append(Row(cells, f"{model} {budget:g}"))
    columns = (
        *labels("model"),
        Column("budget", "budget", "bits"),
        Column("method", "method", align="left", width="1fr"),
        Column("banks", "banks"),
        Column("seeds", "seeds"),
        Column("kl", "KL", "nats", digits=4),
        Column("ratio", "KL ratio", f"to {method_title(BAR)}", digits=3),
        Column("reading", "", align="left"),
        Column("kept", "kept", "start"),
        Column("spread", "spread", "% of banks", digits=1, scale=100),
        Column("floor", "spread", "% of one", digits=1, scale=100),
    )
    notes = [FEW] if alone else []
    notes += _lacks(rows)
    words = caption("banks", *notes, bar=method_title(BAR), runs="; or ".join(sorted(runs)) or "no bank")
    return Table("banks", columns=columns, rows=tuple(rows), **words).filled()


def _lacks(rows: list[Row]) -> list[str]:
    """Return footnotes on readings that are none."""
    notes = {FEW_BANKS: NOT_ENOUGH, LITTLE_TEXT: TOO_LITTLE}
    return [note for reading, note in notes.items() if any(row.cells["reading"] == reading for row in rows)]


def league_banks_table(study: Study) -> Table:
    """Return a line per model, budget and allocator of the league that ran on two draws at least."""
    league = League(study)
    rows, runs = [], set()
    for model in league.models:
        for budget in league.budgets(model):
            for evals in league.finals(model):
                for allocator in league.allocators(model):
                    found = league_over_banks(league, model, budget, evals, allocator) if allocator != BAR else None
                    if found is None:
                        continue
                    runs |= {found.runs_over}
                    cells = {
                        "model": model_title(model),
                        "budget": f"{budget:g}",
                        "evals": f"{evals:,}",
                        "allocator": league.title(allocator),
                        "banks": str(found.banks),
                        "ratio": found.estimate,
                        "reading": found.reading,
                    }
                    rows.append(Row(cells, f"{model} {budget:g} {evals}"))
    columns = (
        *labels("model"),
        Column("budget", "budget", "bits"),
        Column("evals", "evals", "allowed"),
        Column("allocator", "allocator", align="left", width="1fr"),
        Column("banks", "banks"),
        Column("ratio", f"over the {method_title(BAR)}", digits=3),
        Column("reading", "", align="left"),
    )
    words = caption("banks_league", *_lacks(rows), bar=method_title(BAR), runs="; or ".join(sorted(runs)) or "no bank")
    return Table("banks_league", columns=columns, rows=tuple(rows), **words).filled()
