"""Numbers of the league and of the exact optimum that the paper's text names; nothing where the records lack them."""

from __future__ import annotations

from collections.abc import Iterator

from paper.intervals import Estimate
from paper.league import BAR, OWN, League, reading
from paper.naming import model_title
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
    runs = league.rows[["model", "budget_bits", "run_evals", "allocator", "seed"]].drop_duplicates()
    yield "league.runs", f"{len(runs):,} runs"
    said = []
    for model in league.models:
        last = league.headline(model)
        found = {name: league.ratio(model, last, name) for name in league.allocators(model) if name != BAR}
        ratios = {name: ratio for name, ratio in found.items() if ratio is not None}
        if not ratios:
            continue
        best = min(ratios, key=lambda name: ratios[name].value)
        line = f"On {model_title(model)}, after {last:,} evaluations, "
        if OWN in ratios:
            line += f"{league.title(OWN)} has {shown(ratios[OWN], RATIO)} of the knapsack's held-out KL "
            line += f"({reading(ratios[OWN], 1.0)})"
            line += ", the least of all allocators" if best == OWN else ""
        if best != OWN:
            line += f"{'; the least is' if OWN in ratios else 'the least is'} {league.title(best)}'s, "
            line += f"{shown(ratios[best], RATIO)} of it"
        said.append(f"{line}.")
    if said:
        yield "league.reading", " ".join(said)


def _optimum(study: Study) -> Items:
    """``optimum.{allocations,ours,best}``: gaps at the last checkpoint, over problems, budgets and seeds."""
    frame = study.frame("optimum")
    if frame is None:
        return
    yield "optimum.problems", str(len(frame[["model", "units"]].drop_duplicates()))
    yield "optimum.allocations", f"{int(frame['allocations'].max()):,}"
    last = frame[frame["evals"] == frame.groupby("allocator")["evals"].transform("max")]
    for name, part in last.groupby("allocator"):
        gaps = part["gap_share"].astype("float64")
        if gaps.notna().all():
            yield f"optimum.{name}.gap", shown(float(gaps.mean()), PERCENT)
            yield f"optimum.{name}.worst", shown(float(gaps.max()), PERCENT)
            yield f"optimum.{name}.evals", f"{int(part['evals'].max()):,}"
