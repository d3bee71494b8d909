"""Numbers of the league and of the exact optimum that the paper's text names; nothing where the records lack them."""

from __future__ import annotations

from collections.abc import Iterator

from paper.intervals import Estimate
from paper.league import OWN, League, reading
from paper.naming import BAR, model_title
from paper.study import Study
from paper.tables.model import Column, parts

RATIO = Column("", "", digits=3)
PERCENT = Column("", "", digits=2, scale=100)

Items = Iterator[tuple[str, str]]


def shown(value: float | Estimate, column: Column) -> str:
    """A number with its interval, as in the tables."""
    return " ".join(part for part in parts(value, column) if part)


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def league_values(study: Study) -> Items:
    """``league.*`` and ``optimum.*``."""
    yield from _league(study)
    yield from _optimum(study)


def _league(study: Study) -> Items:
    """``league.{models,runs}``, and how ours and the best of the others stand to the knapsack on every model."""
    league = League(study)
    if not league.is_there or league.rows is None:
        return
    yield "league.models", listed([model_title(model) for model in league.models])
    runs = len(league.rows[["model", "budget_bits", "run_evals", "allocator", "seed"]].drop_duplicates())
    planned = int(league.rows["planned"].fillna(0).max())
    share = f" of the {planned:,}" if planned > runs else ""
    yield "league.runs", f"{runs:,}{share} runs"
    found = [
        (model, evals, *rival)
        for model in league.models
        for evals in league.checkpoints(model)
        if (rival := league.best_rival(model, evals)) is not None
    ]
    if found:
        yield "league.reading", " ".join(_standing(league, *each) for each in found)
        yield "league.advice", _advice(league, [ratio.side(1.0) for *_, ratio in found])


def _standing(league: League, model: str, evals: int, rival: str, ratio: Estimate) -> str:
    """How ours stands to the knapsack and to its best rival on a model at a checkpoint."""
    words = f"On {model_title(model)}, after {evals:,} evaluations, {league.title(OWN)} has "
    bar = ratio if rival == BAR else league.ratio(model, evals, OWN)
    if bar is not None:
        words += f"{shown(bar, RATIO)} of the knapsack's held-out KL ({reading(bar, 1.0)})"
    if rival == BAR:
        return f"{words}, which is the best of its rivals."
    words += " and " if bar is not None else ""
    return f"{words}{shown(ratio, RATIO)} of that of its best rival, {league.title(rival)} ({reading(ratio, 1.0)})."


def _advice(league: League, sides: list[int]) -> str:
    """Which allocator to use: ours where no model speaks against it and one for it, else whoever beats the knapsack.

    ``sides``: of our ratio to the best rival, one per model and checkpoint; -1 where ours is better beyond noise.
    """
    own = league.title(OWN)
    if max(sides) <= 0 and min(sides) < 0:
        return (
            f"Nowhere here is {own} worse than the best of its rivals beyond noise, and somewhere it is better: it is "
            "the allocator that this suite recommends where its evaluations can be afforded, and the knapsack where "
            "none can."
        )
    words = f"{own} is worse somewhere than the best of its rivals, or nowhere better beyond noise. "
    better = _beats_the_bar(league)
    if better is None:
        return words + (
            "No allocator beats the knapsack on every model beyond noise: the gain is the knapsack's, and it is what "
            "this suite recommends; it needs no search."
        )
    title = league.title(better)
    return words + (
        f"{title[0].upper()}{title[1:]} beats the knapsack on every model beyond noise, by most: it is the allocator "
        "that this suite recommends where its evaluations can be afforded."
    )


def _beats_the_bar(league: League) -> str | None:
    """The allocator of the least mean ratio to the knapsack, of those that are better on every model."""
    found: dict[str, float] = {}
    for name in {name for model in league.models for name in league.allocators(model)} - {BAR}:
        ratios = [league.ratio(model, league.headline(model), name) for model in league.models]
        whole = [ratio for ratio in ratios if ratio is not None and ratio.side(1.0) < 0]
        if len(whole) == len(league.models):
            found[name] = sum(ratio.value for ratio in whole) / len(whole)
    return min(found, key=lambda name: found[name], default=None)


def _optimum(study: Study) -> Items:
    """``optimum.{allocations,ours,best}``: gaps at the last checkpoint, over problems, budgets and seeds."""
    frame = study.frame("optimum")
    if frame is None:
        return
    yield "optimum.problems", str(len(frame[["model", "units"]].drop_duplicates()))
    yield "optimum.allocations", f"{int(frame['allocations'].max()):,}"
    run = ["model", "units", "budget_bits", "allocator", "seed"]
    last = frame[frame["evals"] == frame.groupby(run)["evals"].transform("max")]
    for name, part in last.groupby("allocator"):
        gaps = part["gap_share"].astype("float64")
        if gaps.notna().all():
            yield f"optimum.{name}.gap", shown(float(gaps.mean()), PERCENT)
            yield f"optimum.{name}.worst", shown(float(gaps.max()), PERCENT)
            yield f"optimum.{name}.evals", f"{int(part['evals'].max()):,}"
