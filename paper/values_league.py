"""Numbers of the league and of the exact optimum in the paper's text; absent where the records lack them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paper.intervals import reading
from paper.league import OWN, League
from paper.naming import BAR, model_title
from paper.search_over_banks import standings
from paper.study import Study
from paper.tables.optimum import allocator_title
from paper.words import listed, plural, shown
from ramp.evaluation.bootstrap import Estimate

Items = Iterator[tuple[str, str]]


def league_values(study: Study) -> Items:
    """``league.*`` and ``optimum.*``."""
    yield from _league(study)
    yield from _optimum(study)


def _league(study: Study) -> Items:
    """``league.{models,runs}``, how ours and the best of the others stand to the knapsack, what switches do."""
    league = League(study)
    if not league.is_there or league.every is None:
        return
    yield "league.models", listed([model_title(model) for model in league.models])
    runs = len(league.every[["model", "budget_bits", "run_evals", "allocator", "seed"]].drop_duplicates())
    planned = int(league.every["planned"].fillna(0).max())
    share = f" of the {planned:,}" if planned > runs else ""
    yield "league.runs", f"{runs:,}{share} runs"
    ratios: dict[tuple[str, int], Estimate] = {}
    sentences = []
    for model in league.models:
        lines = []
        for evals in league.checkpoints(model):
            if best := league.best_rival(model, evals):
                ratios[model, evals] = best[1]
                lines.append(_standing(league, model, evals, *best))
        if lines:
            where = f"On {model_title(model)} at {_bits(league, model)}"
            sentences.append(f"{where} {league.title(OWN)} has {'; '.join(lines)}.")
    yield from ((f"league.reading.{place}", words) for place, words in enumerate(sentences))
    if ratios:
        yield "league.advice", _advice(league, ratios)
    for place, words in enumerate(_switches(league)):
        yield f"league.switches.{place}", words


def _switches(league: League) -> Iterator[str]:
    """Yield the effect of each switch on a method of ours: a sentence per model, method, budget and run length."""
    groups: dict[tuple[str, str, float, int], dict[str, list[str]]] = {}
    seeds: dict[tuple[str, str, float, int], list[int]] = {}
    for each in league.ablations():
        change = league.against(each.cell, each.own)
        if change is None:
            continue
        same = np.array_equal(each.cell.kl.mean(axis=0), each.own.kl.mean(axis=0))
        effect = "no change at all" if same else reading(change)
        name = (each.model, each.base, each.budget, each.evals)
        variant = league.title(each.variant)
        groups.setdefault(name, {}).setdefault(effect, []).append(f"“{variant.partition(', ')[2] or variant}”")
        seeds.setdefault(name, []).append(min(len(each.cell.kl), len(each.own.kl)))
    for name, found in groups.items():
        model, base, budget, evals = name
        order = [effect for effect in ("worse", "within noise", "no change at all", "better") if effect in found]
        words = f"{league.title(base)} on {model_title(model)} at {budget:g} bits after {evals:,} evaluations"
        words += f" ({plural(min(seeds[name]), 'seed')}), with one switch turned: "
        words += "; ".join(f"{effect} with {listed(found[effect])}" for effect in order)
        alone = ". One seed: how far another ends from it is not in these readings." if min(seeds[name]) == 1 else "."
        yield words + alone


def _standing(league: League, model: str, evals: int, rival: str, ratio: Estimate) -> str:
    """Return our ratio to the knapsack and to the best rival on a model at a checkpoint, in words."""
    words = f"after {evals:,} evaluations ({_seeds(league, model, evals, OWN)}) "
    bar = ratio if rival == BAR else league.ratio(model, evals, OWN)
    if bar is not None:
        words += f"{shown(bar, 3)} of the knapsack's held-out KL ({reading(bar, 1.0)})"
    if rival == BAR:
        return f"{words}, the best of its rivals"
    words += " and " if bar is not None else ""
    words += f"{shown(ratio, 3)} of that of its best rival, {league.title(rival)}"
    return f"{words} ({_seeds(league, model, evals, rival)}; {reading(ratio, 1.0)})"


def _bits(league: League, model: str) -> str:
    """Return the budgets at which ours ran, in words."""
    return f"{listed([f'{bits:g}' for bits in league.budgets(model, OWN)])} bits"


def _seeds(league: League, model: str, evals: int, allocator: str) -> str:
    """Return how many seeds the allocator has at a checkpoint (the fewest of our budgets)."""
    cells = [league.cell(model, budget, evals, allocator) for budget in league.budgets(model, OWN)]
    counts = [cell.rows["seed"].nunique() for cell in cells if cell is not None]
    return plural(min(counts, default=0), "seed")


OVER_BANKS = (
    "Each model has one bank here, which is one draw of rounding; final rows over banks say where the gain comes again."
)
ONE_BANK = (
    "Each model has one bank here, which is one draw of rounding. Until the gain comes again on other banks this suite "
    "recommends no search: it recommends the knapsack, which needs none."
)


def _advice(league: League, ratios: dict[tuple[str, int], Estimate]) -> str:
    """Return what the rows say of ours and of the knapsack; a search is recommended by no rows of one bank.

    ``ratios``: ours to the best rival, per model and checkpoint.
    """
    own, banks = league.title(OWN), ONE_BANK
    if any(each.side < 0 for each in standings(league.study)):
        banks = OVER_BANKS
    sides = [ratio.side(1.0) for ratio in ratios.values()]
    if max(sides) <= 0 and min(sides) < 0:
        ahead = dict.fromkeys(model for (model, _), ratio in ratios.items() if ratio.side(1.0) < 0)
        where = listed([f"{model_title(model)} ({_bits(league, model)})" for model in ahead])
        return (
            f"Nowhere here is {own} worse than the best of its rivals beyond noise, and on {where} it is better. "
            f"{banks}"
        )
    words = f"{own} is worse somewhere than the best of its rivals, or nowhere better beyond noise. "
    better = _beats_the_bar(league)
    if better is None:
        return words + (
            "No allocator beats the knapsack on every model beyond noise: the gain is the knapsack's, and it is what "
            "this suite recommends; it needs no search."
        )
    title = league.title(better)
    return words + (f"{title[0].upper()}{title[1:]} beats the knapsack on every model beyond noise, by most. {banks}")


def _beats_the_bar(league: League) -> str | None:
    """Return the allocator of the least mean ratio to the knapsack, of those that are better on every model."""
    found: dict[str, float] = {}
    for name in {name for model in league.models for name in league.allocators(model)} - {BAR}:
        ratios = [league.ratio(model, league.headline(model), name) for model in league.models]
        whole = [ratio for ratio in ratios if ratio is not None and ratio.side(1.0) < 0]
        if len(whole) == len(league.models):
            found[name] = sum(ratio.value for ratio in whole) / len(whole)
    return min(found, key=lambda name: found[name], default=None)


def _optimum(study: Study) -> Items:
    """``optimum.{allocator}.{gap,worst,evals}``: gaps at the last checkpoint, over problems, budgets and seeds;
    ``optimum.ramp.solved`` where ours found every optimum, ``optimum.solvers``: the others that did."""
    frame = study.frame("optimum")
    if frame is None:
        return
    yield "optimum.problems", str(len(frame[["model", "units"]].drop_duplicates()))
    yield "optimum.allocations", f"{int(frame['allocations'].max()):,}"
    run = ["model", "units", "budget_bits", "allocator", "seed"]
    last = frame[frame["evals"] == frame.groupby(run)["evals"].transform("max")]
    solved: list[str] = []
    for name, part in last.groupby("allocator"):
        gaps = part["gap_share"].astype("float64")
        if gaps.notna().all():
            solved += [name] if gaps.max() <= 0 else []
            yield f"optimum.{name}.gap", shown(float(gaps.mean()), scale=100)
            yield f"optimum.{name}.worst", shown(float(gaps.max()), scale=100)
            yield f"optimum.{name}.evals", f"{int(part['evals'].max()):,}"
    if OWN in solved:
        yield "optimum.ramp.solved", "yes"
    if solved != [OWN] and solved:
        titles = last.drop_duplicates("allocator").set_index("allocator")["title"].fillna("")
        yield "optimum.solvers", listed([allocator_title(titles[name], name) for name in solved if name != OWN])
