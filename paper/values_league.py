"""Numbers of the league and of the exact optimum in the paper's text; absent where the records lack them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from paper.intervals import IDENTICAL, reading
from paper.league import OWN, League
from paper.naming import model_title
from paper.search_over_banks import standings as standings_over_banks
from paper.study import Study
from paper.tables.league import switch_title
from paper.tables.optimum import allocator_title
from paper.words import listed, plural, shown
from ramp.assets.tiny_family import PRESETS
from ramp.evaluation.bootstrap import Estimate
from ramp.methods.names import BAR

if TYPE_CHECKING:
    import pandas as pd

Items = Iterator[tuple[str, str]]

RELATIVES = {"evolution": "evolution", "annealing": "annealing", "ppo": "PPO", "sac_continuous": "continuous actions"}
"""How the names of allocators by other learners and searches begin, and their titles."""


def league_values(study: Study) -> Items:
    """Yield ``league.*`` and ``optimum.*``."""
    yield from _league(study)
    yield from _optimum(study)


def _league(study: Study) -> Items:
    """Yield ``league.{models,runs}``, how ours and the best of the others stand to the knapsack, what switches do."""
    league = League(study)
    if not league.is_there or league.every is None:
        return
    yield "league.models", listed([model_title(model) for model in league.models])
    runs = len(league.every[["model", "budget_bits", "run_evals", "allocator", "seed"]].drop_duplicates())
    planned = int(league.every["planned"].fillna(0).max())
    share = f" of the {planned:,}" if planned > runs else ""
    yield "league.runs", f"{runs:,}{share} runs"
    assert league.windows is not None  # of a league that is there
    yield "league.text", _text(league.windows)
    standings = [
        Standing(model, evals, *best)
        for model in league.models
        for evals in league.checkpoints(model)
        if (best := league.best_rival(model, evals))
    ]
    ends = {standing.model: standing for standing in standings}  # the last checkpoint of each model
    for place, standing in enumerate(ends.values()):
        yield f"league.reading.{place}", f"On {_beside(league, standing)}: {reading(standing.ratio, 1.0)}."
    if standings:
        yield "league.advice", _advice(league, standings)
    ran = set(league.every["allocator"])
    if found := [title for start, title in RELATIVES.items() if any(name.startswith(start) for name in ran)]:
        yield "league.rivals", listed(found)
    for place, words in enumerate(_switches(league)):
        yield f"league.switches.{place}", words
    if updates := _without(league, "ramp_frozen"):
        yield "league.updates", updates
    if trained := [_shape(name) for name in league.models if name in PRESETS]:
        yield "league.trained", "; ".join(trained)


def _shape(name: str) -> str:
    """Return the size of a model that the suite trains, in words."""
    preset = PRESETS[name]
    words = f"{model_title(name)}: {preset.family}, {preset.layers} blocks of width {preset.hidden} and "
    return f"{words}{preset.intermediate}, {preset.kv_heads} key/value heads, {preset.vocab:,} tokens of vocabulary"


EFFECTS = {"worse": "higher", "within noise": "within noise", "better": "lower", IDENTICAL: "the same"}
"""What a switch does to the KL, by the reading of the difference."""


class Standing(NamedTuple):
    """Ours beside the best of its rivals on a model at a checkpoint."""

    model: str
    evals: int
    rival: str
    ratio: Estimate  # of held-out KL, ours over the rival's


def _switches(league: League) -> Iterator[str]:
    """Yield the effect of each switch on a method of ours: a sentence per model, method, budget and run length."""
    groups: dict[tuple[str, str, float, int], dict[str, list[str]]] = {}
    seeds: dict[tuple[str, str, float, int], list[int]] = {}
    for each in league.ablations():
        change = league.against(each.cell, each.own)
        if change is None:
            continue
        effect = EFFECTS[reading(change)]
        name = (each.model, each.base, each.budget, each.evals)
        groups.setdefault(name, {}).setdefault(effect, []).append(f"“{switch_title(league.title(each.variant))}”")
        seeds.setdefault(name, []).append(min(len(each.cell.kl), len(each.own.kl)))
    for name, found in groups.items():
        model, base, budget, evals = name
        order = [effect for effect in EFFECTS.values() if effect in found]
        words = f"{league.title(base)} on {model_title(model)}, {budget:g} bits, {evals:,} evaluations"
        words += f" ({plural(min(seeds[name]), 'seed')}), one switch changed at a time. Held-out KL is "
        words += "; ".join(f"{effect} with {listed(found[effect])}" for effect in order)
        alone = (
            ". One seed: intervals are over windows and leave the spread over seeds out."
            if min(seeds[name]) == 1
            else "."
        )
        yield words + alone


def _text(windows: pd.DataFrame) -> str:
    """Return how much held-out text the rows of the league are scored on."""
    windows = windows.assign(tokens=windows["tokens"].astype(int))
    scored = windows.groupby("model").agg(count=("window", "nunique"), tokens=("tokens", "max"))
    found = sorted({(int(count), int(tokens)) for count, tokens in scored.itertuples(index=False)})
    return listed(
        [f"{count} windows of {tokens + 1:,} tokens" for count, tokens in found]
    )  # the first is not predicted


def _without(league: League, variant: str) -> str:
    """Return the difference of a variant of ours to ours in every comparison, in words; nothing without one."""
    found = []
    for each in league.ablations():
        change = league.against(each.cell, each.own) if each.variant == variant else None
        if change is not None:
            where = f"{model_title(each.model)}, {each.budget:g} bits, {plural(len(each.cell.kl), 'seed')}"
            found.append(f"{shown(change, 4, signed=True)} nats, {reading(change)} ({where})")
    return listed(found) if found else ""


def _beside(league: League, standing: Standing) -> str:
    """Return our KL over that of the best rival, with all that the number rests on, in words."""
    model, evals, rival, ratio = standing
    seeds = f"{_seeds(league, model, evals, OWN)} of ours, {_seeds(league, model, evals, rival)} of the rival"
    kept = reading(league.ratio(model, evals, rival), 1.0) == IDENTICAL  # the rival against the knapsack
    against = f"{league.title(rival)}{', which kept its start,' if kept and rival != BAR else ''}"
    return (
        f"{model_title(model)} ({_bits(league, model)}) the held-out KL is {shown(ratio, 3)} times that of {against} "
        f"after {evals:,} evaluations ({seeds})"
    )


def _bits(league: League, model: str) -> str:
    """Return the budgets at which ours ran, in words."""
    return f"{listed([f'{bits:g}' for bits in league.budgets(model, OWN)])} bits"


def _seeds(league: League, model: str, evals: int, allocator: str) -> str:
    """Return how many seeds the allocator has at a checkpoint (the fewest of our budgets)."""
    cells = [league.cell(model, budget, evals, allocator) for budget in league.budgets(model, OWN)]
    counts = [cell.rows["seed"].nunique() for cell in cells if cell is not None]
    return plural(min(counts, default=0), "seed")


ONE_BANK = "These numbers are of one bank, which is one draw of calibration text and rounding. "
NO_SEARCH = "this suite recommends no search: it recommends the knapsack, which needs none."


def _over_banks(study: Study) -> str:
    """Return what rows over banks add to rows of one: the search beside its start, at every budget."""
    found = [each for each in standings_over_banks(study) if each.ratio.banks > 1]
    if not found:
        return f"{ONE_BANK}Until the gain comes again on other banks {NO_SEARCH}"
    return (
        ONE_BANK
        if all(each.side < 0 for each in found)
        else f"{ONE_BANK}Until a gain over banks is settled {NO_SEARCH}"
    )


def _advice(league: League, standings: Sequence[Standing]) -> str:
    """Return what the rows say of ours and of the knapsack; a search is recommended by no rows of one bank."""
    own = league.title(OWN)
    banks = _over_banks(league.study)
    sides = [standing.ratio.side(1.0) for standing in standings]
    if max(sides) <= 0 and min(sides) < 0:
        ahead = {each.model: each for each in standings if each.ratio.side(1.0) < 0}  # the last checkpoint of each
        where = "; on ".join(_beside(league, each) for each in ahead.values())
        return (
            f"At no checkpoint of the league is {own} behind the best of its rivals beyond noise. On {where}. {banks}"
        )
    behind = {each.model: each for each in standings if each.ratio.side(1.0) > 0}
    words = f"No difference between {own} and the best of its rivals is beyond noise. "
    if behind:
        words = f"{own} is behind a rival: on {'; on '.join(_beside(league, each) for each in behind.values())}. "
    better = _beats_the_bar(league)
    if better is None:
        return words + (
            "No allocator has less held-out KL than the knapsack on every model beyond noise. This suite recommends "
            "the knapsack, which needs no search."
        )
    title = league.title(better)
    return words + (
        f"{title[0].upper()}{title[1:]} has less held-out KL than the knapsack on every model beyond noise, and of "
        f"those that have, the least on average. {banks}"
    )


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
    """Yield ``optimum.{allocator}.{gap,worst,evals}``: gaps at the last checkpoint, over problems, budgets and seeds;
    ``optimum.ramp.solved`` where ours found every optimum, ``optimum.solvers``: the others that did."""
    frame = study.frame("optimum")
    if frame is None:
        return
    problems = frame[["model", "units"]].drop_duplicates()
    yield "optimum.problems", str(len(problems))
    yield "optimum.of", listed([f"of {model_title(model)} {_units(name)}" for model, name in problems.to_numpy()])
    yield "optimum.allocations", f"{int(frame['allocations'].max()):,}"
    run = ["model", "units", "budget_bits", "allocator", "seed"]
    last = frame[frame["evals"] == frame.groupby(run)["evals"].transform("max")]
    solved: list[str] = []
    for name, part in last.groupby("allocator"):
        gaps = part["gap_share"].astype("float64")
        if gaps.notna().all():
            solved += [name] if gaps.max() <= 0 else []
            yield f"optimum.{name}.gap", _percent(float(gaps.mean()))
            by_budget = part.assign(gap=gaps).groupby("budget_bits")["gap"].mean().items()
            yield f"optimum.{name}.gaps", listed([f"{_percent(gap)} % at {bits:g} bits" for bits, gap in by_budget])
            yield f"optimum.{name}.worst", _percent(float(gaps.max()))
            yield f"optimum.{name}.evals", f"{int(part['evals'].max()):,}"
    if OWN in solved:
        yield "optimum.ramp.solved", "yes"
    if solved != [OWN] and solved:
        titles = last.drop_duplicates("allocator").set_index("allocator")["title"].fillna("")
        yield "optimum.solvers", listed([allocator_title(titles[name], name) for name in solved if name != OWN])


def _units(name: str) -> str:
    """Return the units of a problem in words; ``halves-8`` names the last eight half-blocks."""
    kind, _, count = str(name).partition("-")
    return f"the last {count} {'half-blocks' if kind == 'halves' else kind}"


def _percent(share: float) -> str:
    """Return a share in per cent: two decimals below 10 %, none above."""
    return shown(share, 2 if abs(share) < 0.1 else 0, 100)
