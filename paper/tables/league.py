"""The league: allocators at equal cost on one bank, their incumbents on held-out text, paired with the knapsack."""

from __future__ import annotations

from typing import Any

from paper.intervals import Estimate
from paper.league import Cell, League, reading
from paper.naming import BAR, method_title, model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table

RULE = (
    "Incumbent: best on selection text among the five best feasible allocations on search text so far and the start, "
    "by the same rule for all. KL of the bank's weights on held-out windows, which choose nothing; differences are "
    "paired on the same windows, seeds resampled. Tokens: forward tokens up to there (backward = 2), sensitivities and "
    "selection included. A method that needs no search stands at every checkpoint with its tokens."
)
BANKS = (
    "A variant and its method stand on one bank. It need not be that of the league's other tables: made again on "
    "another machine, a bank differs by rounding, and its model, where it was trained, altogether."
)
ONE_SEED = (
    "Of one seed an interval is over windows alone: how far another seed of the same search ends from it is not in it."
)
ABSENT = "No league is in these records (snakemake league)."


def league_table(study: Study) -> Table:
    """One line per model, budget and allocator, where searches end."""
    league = League(study)
    rows = []
    for model in league.models:
        for budget in league.budgets(model):
            for end in league.finals(model):
                bar = league.cell(model, budget, end, BAR)
                for allocator in league.allocators(model):
                    cell = league.cell(model, budget, end, allocator)
                    if cell is not None:
                        own = None if allocator == BAR else league.against(cell, bar)
                        name = {"model": model_title(model), "budget": f"{budget:g}", "end": f"{end:,}"}
                        name["allocator"] = league.title(allocator)
                        rows.append(Row({**name, **_cells(cell, own)}, f"{model} {budget:g} {end}"))
    return Table(
        name="league",
        title="The league where its searches end: KL to the float model on held-out text of each allocator's "
        f"incumbent, and its paired difference to the {method_title(BAR)}; below 0 the allocator is better.",
        columns=(
            Column("model", "model", align="left"),
            Column("budget", "budget", "bits"),
            Column("end", "evals", "allowed"),
            Column("allocator", "allocator", align="left", width="1fr"),
            Column("seeds", "seeds"),
            Column("tokens", "tokens", "thousands", digits=0),
            Column("search", "KL", "search", digits=4),
            Column("held", "KL", "held-out", digits=4),
            Column("gain", "less knapsack", "nats", digits=4, signed=True),
            Column("reading", "", align="left"),
        ),
        rows=tuple(rows),
        footnotes=(RULE,) if rows else (),
        absent=ABSENT,
    ).filled()


def _cells(cell: Cell, gain: Estimate | None) -> dict[str, Any]:
    tokens = cell.mean("tokens")
    return {
        "seeds": str(len(cell.rows)),
        "tokens": None if tokens is None else tokens / 1000,
        "search": cell.mean("kl_search"),
        "held": cell.held,
        "gain": gain,
        "reading": reading(gain),
    }


def league_summary_table(study: Study) -> Table:
    """One line per model and allocator: held-out KL over the knapsack's, all budgets together, at each checkpoint."""
    league = League(study)
    moments = sorted({evals for model in league.models for evals in league.checkpoints(model)})
    rows = []
    for model in league.models:
        for allocator in league.allocators(model):
            ratios = {str(evals): league.ratio(model, evals, allocator) for evals in moments}
            if allocator == BAR or not any(ratios.values()):
                continue
            budgets = ", ".join(f"{budget:g}" for budget in league.budgets(model, allocator))
            cells = {"model": model_title(model), "allocator": league.title(allocator), "budgets": budgets}
            rows.append(Row({**cells, **ratios}, model))
    return Table(
        name="league_summary",
        title=f"Held-out KL of each allocator over that of the {method_title(BAR)}, summed over the budgets, after so "
        "many evaluations; below 1 the allocator is better.",
        columns=(
            Column("model", "model", align="left"),
            Column("allocator", "allocator", align="left", width="1fr"),
            Column("budgets", "budgets", "bits", align="left"),
            *(Column(str(evals), f"{evals:,} evaluations", digits=3) for evals in moments),
        ),
        rows=tuple(rows),
        absent=ABSENT,
    ).filled()


def ablations_table(study: Study) -> Table:
    """One line per variant, budget and model: its paired difference to its own method where both stand last."""
    league = League(study)
    rows = []
    for each in league.ablations():
        change = league.against(each.cell, each.own)
        cells = {
            "model": model_title(each.model),
            "budget": f"{each.budget:g}",
            "evals": f"{each.evals:,}",
            "variant": league.title(each.variant),
            "method": league.title(each.base),
            "seeds": str(len(each.cell.rows)),
            "held": each.cell.held,
            "change": change,
            "reading": reading(change),
        }
        rows.append(Row(cells, f"{each.model} {each.base}"))
    notes = (BANKS,) if any(league.banks[model][1:] for model in league.models) else ()
    notes += (ONE_SEED,) if any(row.cells["seeds"] == "1" for row in rows) else ()
    return Table(
        name="ablations",
        title="Ablations: each variant changes the named switch alone. Paired difference of held-out KL to the "
        "unchanged method on the same bank, at the last checkpoint of both; below 0 the variant is better.",
        columns=(
            Column("model", "model", align="left"),
            Column("budget", "budget", "bits"),
            Column("evals", "evals", "allowed"),
            Column("variant", "variant", align="left", width="1fr"),
            Column("method", "of", align="left"),
            Column("seeds", "seeds"),
            Column("held", "KL", "held-out", digits=4),
            Column("change", "less the method", "nats", digits=4, signed=True),
            Column("reading", "variant is", align="left"),
        ),
        rows=tuple(rows),
        footnotes=notes,
        absent="No variant of a method is in these records (variants of the configuration, snakemake league).",
    ).filled()
