"""Run one search: a method on a problem, every evaluation written down.

The one engine of all searches: ``ramp.search`` writes its result as an allocation, ``ramp.league`` reads it at
checkpoints, ``ramp.optimum.run`` compares it with an exact optimum.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ramp.core.atomic_files import finite
from ramp.core.progress import Progress
from ramp.methods.kinds import Allocator
from ramp.problem.problem import Allocation, AllocationError, Problem, Run, encode
from ramp.scoring.score_type import Score
from ramp.search.journal import SearchState

if TYPE_CHECKING:
    from pydantic import BaseModel


class Evaluation(NamedTuple):
    """One score of an allocation on search text, or on a part of it."""

    choice: str  # ramp.problem.problem.encode
    kl: float  # nats per token, infinite if not finite; of a part, what the method logs as its estimate
    bytes: int  # packed bytes of the linears
    tokens: int  # forward tokens spent up to and including this score
    evals: int  # evaluations spent likewise; parts count by their tokens
    whole: bool  # scored on all of the search text


@dataclass
class SearchRun:
    """A search: what it evaluated, what it logged, the allocation that the method returned, every known score.

    ``evaluations`` holds every score on search text in order, repeated ones included; ``rows`` one row per episode.
    """

    problem: Problem
    state: SearchState
    evaluations: list[Evaluation] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    found: Allocation = field(init=False)  # set when the method is done

    def __post_init__(self) -> None:
        evaluators = self.state.evaluators
        self._whole = evaluators["search"]
        self._parts = [evaluators[f"search part {k}"] for k in range(len(self.problem.search_parts))]
        self._whole.observer = partial(self._scored, whole=True)
        for part in self._parts:
            part.observer = partial(self._scored, whole=False)

    @property
    def spent(self) -> int:
        """Evaluations spent so far; scores on parts of search text count by their tokens, their sum rounded up."""
        return self._whole.evals + math.ceil(self.problem.part_cost * sum(part.evals for part in self._parts) - 1e-9)

    @property
    def proxy_tokens(self) -> int:
        """Forward tokens that the sensitivities cost, if the method has read them."""
        return self.problem.proxy_tokens if self.problem.proxy_used else 0

    @property
    def tokens(self) -> int:
        """Forward tokens spent so far: sensitivities, and every score on search and on selection text."""
        return sum(evaluator.tokens for evaluator in self.state.evaluators.values()) + self.proxy_tokens

    @property
    def start(self) -> str | None:
        """The warm start (``encode``), or None."""
        return None if self.found.start_choice is None else encode(self.found.start_choice)

    def score(self, text: str, choice: np.ndarray | str | None) -> Score | None:
        """Return an allocation's score on ``search`` or ``selection`` text; None where it was not evaluated."""
        code = choice if choice is None or isinstance(choice, str) else encode(choice)
        return None if code is None else self.state.scores.get((text, code))

    def kl(self, text: str, choice: np.ndarray | str | None) -> float | None:
        """Return the KL of ``score``; None where unknown or not finite."""
        score = self.score(text, choice)
        return None if score is None else finite(score.kl)

    def upto(self, evals: int) -> int:
        """Return how many scores the first ``evals`` evaluations paid for."""
        return bisect.bisect_right(self.evaluations, evals, key=lambda each: each.evals)

    def log(self, row: dict[str, Any]) -> None:
        """Keep a method's row of an episode, with the counters of this moment."""
        counters = {"episode": len(self.rows), "evals": self.spent, "tokens": self.tokens}
        scored = {}
        if self.evaluations:
            last = self.evaluations[-1]
            scored = {"choice": last.choice}
            if not last.whole:
                self.evaluations[-1] = last._replace(kl=_or_infinite(row.get("kl")))
        self.rows.append({key: finite(value) for key, value in {**counters, **scored, **row}.items()})

    def _scored(self, choice: np.ndarray, score: Score, whole: bool) -> None:
        kl = _or_infinite(score.kl if whole else None)  # that of a part comes with the method's row
        size = self.problem.bytes_of(choice)
        self.evaluations.append(Evaluation(encode(choice), kl, size, self.tokens, self.spent, whole))


def _or_infinite(kl: float | None) -> float:
    return float(kl) if kl is not None and np.isfinite(kl) else np.inf


def run_search(
    method: Allocator,
    params: BaseModel,
    problem: Problem,
    state: SearchState,
    *,
    seed: int,
    evals: int,
    artifacts: Path | None = None,
) -> SearchRun:
    """Run one method on one problem whose evaluators came from ``state.evaluator``; a killed search goes on.

    ``artifacts`` is where the method writes its policy; None: beside the journal, deleted with it.

    Raises:
        AllocationError: the method spent more than ``evals`` evaluations.
    """
    search, progress = SearchRun(problem, state), Progress(method.title, evals)

    def log(row: dict[str, Any]) -> None:
        search.log(row)
        progress.show(search.rows[-1])

    folder = artifacts or state.folder / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(seed, evals, folder, log, method.name)
    search.found = method.allocate(problem, params, run)
    progress.close()
    if search.spent > evals:
        raise AllocationError(
            f"the method spent {search.spent} evaluations, {evals} were given: raise --evals or fix the method"
        )
    return search


def comparable(evaluations: Sequence[Evaluation], upto: int) -> list[int]:
    """Return the positions among the first ``upto`` evaluations whose KL compares: parts alone, where any were scored.

    An estimate that a method makes from a part of the text does not compare with a score on all of it.
    """
    parted = not all(each.whole for each in evaluations)
    return [position for position in range(upto) if not (parted and evaluations[position].whole)]


def ranked(evaluations: Sequence[Evaluation], upto: int, budget_bytes: int) -> list[Evaluation]:
    """Return the feasible ones of the first ``upto`` evaluations, best first, each allocation once by its latest."""
    latest = {evaluations[position].choice: position for position in comparable(evaluations, upto)}
    usable = [p for p in latest.values() if np.isfinite(evaluations[p].kl) and evaluations[p].bytes <= budget_bytes]
    return [evaluations[p] for p in sorted(usable, key=lambda p: (evaluations[p].kl, p))]
