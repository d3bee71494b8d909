"""Which finalist is reported: least loss on selection text, or a race over parts of it with paired standard errors.

The best of many noisy scores is partly the luckiest one. Three switches guard against that: finalists proposed by the
additive critic's mean instead of by their own score (``mean_finalists``), more selection text spent where it decides
(successive halving, Karnin, Koren and Somekh 2013; racing, Maron and Moore 1994), and a start that stands unless a
finalist beats it by ``margin`` standard errors of their paired difference over the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ramp.agent.params import RampParams
from ramp.problem.problem import AllocationError, Problem
from ramp.scoring.score import Score

LEAST_PARTS = 4
"""Parts on which every finalist is scored before any is dropped; a standard error of fewer says nothing."""


class Race(NamedTuple):
    """The outcome of ``race``."""

    winner: int  # position among the candidates; 0 is the start
    losses: np.ndarray  # float64 [candidates, parts], nats per token; NaN where a candidate had been dropped
    gain: float  # mean of start - winner over all parts, nats per token
    error: float  # its standard error


def paired(start: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of start - other over parts [k] that both were scored on.

    Parts are of equal size. The error is the plain one of a mean of k differences, infinite where k < 2.
    """
    difference = start - other
    if len(difference) < 2:
        return float(difference.mean()), float("inf")
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def race(
    candidates: Sequence[np.ndarray],
    parts: Sequence[Callable[[np.ndarray], Score]],
    margin: float,
    *,
    quality: str = "kl",
    halving: bool = True,
    order: np.ndarray | None = None,
) -> Race:
    """Score candidates on the parts of a text; the first candidate, the start, is on every part.

    With ``halving``, all run on the first parts, then the better half on as many again, and so on until one is left
    or the parts are used up; the survivors run on all parts. Without it, all run on all parts.

    Args:
        candidates: allocations int [n]; the start first.
        parts: scorers of one part each, of equal size.
        margin: standard errors by which a candidate must beat the start; 0: any gain wins.
        quality: "kl" or "log_ppl", what is compared.
        order: parts in the order of their use; None: as they come.

    Raises:
        AllocationError: there are fewer than ``LEAST_PARTS`` parts.
    """
    if len(parts) < LEAST_PARTS:
        raise AllocationError(
            f"a paired choice needs selection text in at least {LEAST_PARTS} parts, there are {len(parts)}: "
            "raise selection_windows or lower part_windows"
        )
    order = np.arange(len(parts)) if order is None else order
    losses = np.full((len(candidates), len(parts)), np.nan)
    alive = list(range(len(candidates)))
    upto = LEAST_PARTS if halving else len(parts)
    done = 0
    while done < len(parts):
        for part in order[done:upto]:
            for row in alive:
                score = parts[part](candidates[row])
                losses[row, part] = score.kl if quality == "kl" else score.nll
        done = upto
        rivals = sorted((row for row in alive if row), key=lambda row: np.sum(losses[row, order[:done]]))
        # a loss that is not finite loses; the start is never dropped, so the better half of its rivals stays
        alive = [0, *rivals[: max(1, (len(rivals) + 1) // 2)]]
        upto = min(2 * done, len(parts))
    if len(alive) == 1:
        return Race(0, losses, 0.0, 0.0)
    best = alive[1]
    if not np.isfinite(losses[best]).all():  # the start stands, whatever its own loss
        return Race(0, losses, float("-inf"), float("nan"))
    if not np.isfinite(losses[0]).all():
        return Race(best, losses, float("inf"), float("nan"))
    gain, error = paired(losses[0], losses[best])
    return Race(best if gain > 0 and gain >= margin * error else 0, losses, gain, error)


def choose_on_parts(
    problem: Problem, candidates: Sequence[np.ndarray], params: RampParams, seed: int
) -> tuple[np.ndarray, int, str]:
    """The winner of a race on the selection text's parts, its position, and one sentence about the race.

    Start and winner are then scored on the whole selection text, for the record; that decides nothing.
    """
    order = np.random.default_rng([seed, 0xF1A]).permutation(len(problem.selection_parts))
    found = race(
        candidates,
        problem.selection_parts,
        params.margin,
        quality=params.reward.quality,
        halving=params.race,
        order=order,
    )
    winner = candidates[found.winner]
    for choice in {choice.tobytes(): choice for choice in (candidates[0], winner)}.values():
        problem.select(choice)
    verdict = "the warm start stands" if found.winner == 0 else "a finalist replaces the warm start"
    said = (
        f"{verdict}: the best rival's KL on {len(problem.selection_parts)} parts of selection text is lower by "
        f"{found.gain:.5f} with a standard error of {found.error:.5f}, and {params.margin:g} errors were asked for"
    )
    return winner, found.winner, said
