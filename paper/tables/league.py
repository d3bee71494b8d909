"""Tables of the league: allocators at equal cost on one bank, their incumbents on held-out text, paired."""

from __future__ import annotations

from paper.banks import spread_notes
from paper.intervals import reading
from paper.league import League
from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from ramp.methods.names import BAR

BANKS = (
    "A variant and its method stand on one bank. It need not be that of the league's other tables: made again on "
    "another machine, a bank differs by rounding, and its model, where it was trained, altogether. Of several banks "
    "that with the longest runs is shown; on another, variants may stand in another order."
)
"""Footnote of the ablations where a model has several banks."""

CHANGES = {
    "ramp_unshaped": "the reward is paid at the end alone",
    "ramp_unmasked": "widths that the budget forbids stay allowed, and bytes left over are not spent",
    "ramp_cold": "the search does not start from the knapsack",
    "ramp_uncloned": "the policy never imitates a knapsack",
    "ramp_actor": "the policy proposes every allocation, the knapsack on the learned critic none",
    "ramp_frozen": "SAC makes no gradient step",
    "ramp_pool": "episodes take turns on parts of 64 further windows of search text",
    "ramp_text": "the learned critic allows for the error of so little text, and its mean is the centre of the search",
    "ramp_prior": "the learned critic allows for the error of so little text, with a narrower prior",
    "ramp_sees_nothing": "the policy sees the width before and what is left of the budget alone",
    "ramp_paper_no_cliff": "k_c = 0",
    "ramp_paper_no_overshoot": "k_o = 0",
    "ramp_paper_no_saving": "k_b = 0",
    "ramp_paper_symmetric": "k_b = −k_o, so that bytes left over cost as much as bytes too many",
    "ramp_paper_flat": "k_b = −k_o and k_c = 0",
    "ramp_paper_kl": "the quality loss is the mean KL",
    "ramp_paper_masked": "widths that the budget forbids are masked",
}
"""Variant of config/league.yaml -> what its switch changes."""

ONE_SEED = (
    "Of one seed an interval is over windows alone: how far another seed of the same search ends from it is not in it."
)
"""Footnote of the ablations where a variant has one seed."""


def league_table(study: Study) -> Table:
    """Return a line per model, budget and allocator, where searches end."""
    league = League(study)
    rows = []
    for model in league.models:
        for budget in league.budgets(model):
            for end in league.finals(model):
                bar = league.cell(model, budget, end, BAR)
                for allocator in league.allocators(model):
                    cell = league.cell(model, budget, end, allocator)
                    if cell is None:
                        continue
                    gain = None if allocator == BAR else league.against(cell, bar)
                    cells = {
                        "model": model_title(model),
                        "budget": f"{budget:g}",
                        "end": f"{end:,}",
                        "allocator": league.title(allocator),
                        "seeds": str(len(cell.rows)),
                        "tokens": cell.mean("tokens"),
                        "search": cell.mean("kl_search"),
                        "held": cell.held,
                        "gain": gain,
                        "reading": reading(gain),
                    }
                    rows.append(Row(cells, f"{model} {budget:g} {end}"))
    columns = (
        *labels("model"),
        Column("budget", "budget", "bits"),
        Column("end", "evals", "allowed"),
        Column("allocator", "allocator", align="left", width="1fr"),
        Column("seeds", "seeds"),
        Column("tokens", "tokens", "thousands", digits=0, scale=1e-3),
        Column("search", "KL", "search", digits=4),
        Column("held", "KL", "held-out", digits=4),
        Column("gain", "less knapsack", "nats", digits=4, signed=True),
        Column("reading", "", align="left"),
    )
    words = caption("league", *spread_notes(study, league.models), bar=method_title(BAR))
    return Table("league", columns=columns, rows=tuple(rows), **words).filled()


def league_summary_table(study: Study) -> Table:
    """Return a line per model and allocator: KL over the knapsack's at the budgets of all, at each checkpoint."""
    league = League(study)
    moments = sorted({evals for model in league.models for evals in league.checkpoints(model)})
    rows = []
    for model in league.models:
        shared = league.shared_budgets(model)
        for allocator in league.allocators(model):
            ratios = {str(evals): league.ratio(model, evals, allocator, budgets=shared) for evals in moments}
            if allocator == BAR or not any(ratios.values()):
                continue
            budgets = ", ".join(f"{budget:g}" for budget in shared)
            cells = {"model": model_title(model), "allocator": league.title(allocator), "budgets": budgets}
            rows.append(Row({**cells, **ratios}, model))
    columns = (
        *labels("model"),
        Column("allocator", "allocator", align="left", width="1fr"),
        Column("budgets", "budgets", "bits", align="left"),
        *(Column(str(evals), f"{evals:,} evaluations", digits=3) for evals in moments),
    )
    words = caption("league_summary", *spread_notes(study, league.models), bar=method_title(BAR))
    return Table("league_summary", columns=columns, rows=tuple(rows), **words).filled()


def ablations_table(study: Study) -> Table:
    """Return a line per variant, budget and model: its paired difference to its own method where both stand last."""
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
            "bytes": each.cell.mean("bytes_linear"),
            "held": each.cell.held,
            "change": change,
            "reading": reading(change) + (", kept its start" if league.kept_start(each) else ""),
        }
        rows.append(Row(cells, f"{each.model} {each.base}"))
    columns = (
        *labels("model"),
        Column("budget", "budget", "bits"),
        Column("evals", "evals", "allowed"),
        Column("variant", "variant", align="left", width="1fr"),
        Column("method", "of", align="left"),
        Column("seeds", "seeds"),
        Column("bytes", "linears", "MB", digits=3, scale=1e-6),
        Column("held", "KL", "held-out", digits=4),
        Column("change", "less the method", "nats", digits=4, signed=True),
        Column("reading", "variant is", align="left"),
    )
    names = dict.fromkeys(each.variant for each in league.ablations())
    changes = [f"{switch_title(league.title(name))}: {CHANGES[name]}" for name in names if name in CHANGES]
    notes = [f"What changes: {'; '.join(changes)}."] if changes else []
    notes += [BANKS] if any(league.banks[model][1:] for model in league.models) else []
    notes += [ONE_SEED] if any(row.cells["seeds"] == "1" for row in rows) else []
    return Table("ablations", columns=columns, rows=tuple(rows), **caption("ablations", *notes)).filled()


def switch_title(title: str) -> str:
    """Return the name of a switch: the title of its variant without that of the method."""
    return title.partition(", ")[2] or title
