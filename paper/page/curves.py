"""The league's curves as data of the results page: held-out KL of the best allocation against evaluations spent."""

from __future__ import annotations

from typing import Any

from paper import style
from paper.anytime_curves import mean_curve
from paper.league import League
from paper.naming import bits_title, model_title
from paper.page.origin import Origin
from paper.study import Study
from ramp.methods.names import BAR


def league_panels(study: Study, origin: Origin) -> dict[str, Any] | None:
    """Return a panel per model and budget; None without a league."""
    league = League(study)
    if not league.is_there or league.curves is None:
        return None
    looks = style.distinct(league.rivals())
    panels = [_panel(league, model, budget, looks) for model in league.models for budget in league.budgets(model)]
    return {"origin": origin.about("league_curves"), "panels": panels}


def _panel(league: League, model: str, budget: float, looks: dict[str, tuple[str, str]]) -> dict[str, Any]:
    assert league.curves is not None  # asked of a league with curves
    curves = league.curves
    part = curves[(curves["model"] == model) & ((curves["budget_bits"] - budget).abs() < 1e-9)]
    lines = []
    for name in league.allocators(model):
        level = league.level(model, budget, name)
        runs = part[part["allocator"] == name]
        look = {"name": league.title(name), "look": looks[name]}
        if level is not None:
            lines.append(look | {"level": level})
        elif len(runs):
            at, mean, low, high, seeds = mean_curve(runs)
            numbers = {"evals": at.tolist()} | {
                key: [float(f"{value:.5g}") for value in values]
                for key, values in (("mean", mean), ("low", low), ("high", high))
            }
            lines.append(look | numbers | {"seeds": seeds})
    bank, *others = league.banks[model]
    note = f"bank '{bank}', one text for all lines of this panel"
    if others:
        note += f"; runs on {len(others)} other bank{'s' * (len(others) > 1)} ({', '.join(others)}) are not drawn here"
    return {
        "title": f"{model_title(model)}, {bits_title(budget)} bits",
        "note": note,
        "bar": league.level(model, budget, BAR),
        "lines": lines,
    }
