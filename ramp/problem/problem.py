"""The allocation problem: linears, widths, exact bytes, a budget, and two counted ways to score an allocation.

In memory an allocation is an integer vector ``choice`` [n]: for each linear, in forward order, an index into
``Problem.widths``; in logs it is a string of one sign per linear (``encode``); in files linear -> width
(``ramp.problem.allocation``). Sizes are ``bytes_linear`` (codes, scales and zeros) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramp.models.architecture import LinearSpec
from ramp.problem.budget import AllocationError, check_budget
from ramp.quantizers.widths import Width, bits_of, grouped
from ramp.scoring.score_type import Score

SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Signs of ``encode``, one per entry of the menu."""


@dataclass
class Evaluator:
    """A scorer of allocations that counts its calls and forward tokens; a score that is not finite becomes infinite."""

    raw: Callable[[np.ndarray], Score]
    evals: int = 0
    tokens: int = 0
    limit: int | None = None  # evaluations allowed; None: any number
    observer: Callable[[np.ndarray, Score], None] | None = None  # called after every score

    def __call__(self, choice: np.ndarray) -> Score:
        if self.limit is not None and self.evals >= self.limit:
            raise AllocationError(
                f"the method asked for more than its {self.limit} evaluations: raise --evals or fix the method"
            )
        score = self.raw(np.asarray(choice, dtype=np.int64))
        self.evals += 1
        self.tokens += score.tokens
        if not (np.isfinite(score.kl) and np.isfinite(score.nll)):
            score = Score(float("inf"), float("inf"), float("inf"), score.tokens)
        if self.observer is not None:
            self.observer(choice, score)
        return score


@dataclass
class Problem:
    """One model, one menu of widths, one budget; ``evaluate`` and ``select`` are the only ways to the model."""

    model: str
    linears: list[LinearSpec]
    widths: tuple[Width, ...]  # one per action, in the order of a menu (ramp.quantizers.widths)
    bytes: np.ndarray  # int64 [n, w]: packed size of linear i at width a
    budget_bytes: int
    budget_bits: float
    features: np.ndarray  # float32 [n, 9]: the static numbers of ramp.problem.features
    evaluate: Callable[[np.ndarray], Score]  # on search text; counted against Run.evals
    select: Callable[[np.ndarray], Score]  # on selection text; counted apart
    bytes_at: Callable[[float], int]  # bits per weight -> budget in bytes of this model
    proxy: np.ndarray | None = None  # float64 [n, w]: additive predicted KL, nats per token; read it by use_proxy()
    proxy_tokens: int = 0  # forward tokens that the proxy cost (backward = 2 forward)
    nll_float: float = 0.0  # of the float model on the search tokens, nats per token
    # one evaluator per part of the text, parts of equal size; empty unless the method's parameters ask for parts
    search_parts: Sequence[Callable[[np.ndarray], Score]] = ()
    part_cost: float = 1.0  # evaluations that a score on one part of search text counts as: its share of the tokens
    # int64 [n, w]: for each action the first one that means the same width of that linear; None: all differ
    alike: np.ndarray | None = None
    proxy_used: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.bytes = np.asarray(self.bytes, dtype=np.int64)
        expected = (len(self.linears), len(self.widths))
        if self.bytes.shape != expected:
            raise AllocationError(f"sizes of {self.model} are {self.bytes.shape}, linears x widths is {expected}")
        bits = [bits_of(width) for width in self.widths]
        if bits != sorted(bits) or len(set(self.widths)) < len(self.widths):
            raise AllocationError(f"widths {list(self.widths)} are not ascending and distinct: sort them")

    @property
    def n(self) -> int:
        """Number of linears."""
        return len(self.linears)

    @property
    def rates(self) -> np.ndarray:
        """Bits per weight of each action, ascending: float64 [w].

        The widths themselves where all linears have the study's groups; where group sizes differ, scales and zeros
        of the whole model count too.
        """
        if not grouped(self.widths):
            return np.array(self.widths, dtype=np.float64)
        return 8.0 * self.bytes.sum(axis=0) / sum(linear.params for linear in self.linears)

    def use_proxy(self) -> np.ndarray:
        """Return the additive proxy [n, w]; from then on its forward tokens count as spent by the run."""
        if self.proxy is None:
            raise AllocationError(
                f"this method needs additive sensitivities of {self.model} and none were given: pass --sensitivity"
            )
        self.proxy_used = True
        return self.proxy

    def distinct(self, choice: np.ndarray) -> np.ndarray:
        """Return a choice [n] with the first of the actions that mean the same: equal allocations are equal arrays."""
        choice = np.asarray(choice, dtype=np.int64)
        return choice if self.alike is None else self.alike[np.arange(self.n), choice]

    def shared(self, costs: np.ndarray) -> np.ndarray:
        """Return costs [n, w] in which actions that mean the same have one cost, that of the first of them."""
        return costs if self.alike is None else np.take_along_axis(costs, self.alike, axis=1)

    def bytes_of(self, choice: np.ndarray) -> int:
        """Return ``bytes_linear`` of an allocation [n]."""
        return int(self.bytes[np.arange(self.n), np.asarray(choice)].sum())

    def is_feasible(self, choice: np.ndarray) -> bool:
        """Return whether an allocation [n] meets the budget."""
        return self.bytes_of(choice) <= self.budget_bytes

    def widths_of(self, choice: np.ndarray | None) -> dict[str, Width] | None:
        """Return a choice [n] as linear -> width; None for None."""
        if choice is None:
            return None
        return {linear.name: self.widths[index] for linear, index in zip(self.linears, choice, strict=True)}

    def check_budget(self) -> None:
        """Raise ``AllocationError`` where even the cheapest width everywhere does not fit."""
        check_budget(self.bytes, self.budget_bytes, self.widths, [linear.params for linear in self.linears])


@dataclass
class Run:
    """Limits and outlets of one run of an allocator.

    An allocator that is deterministic in its seed needs no code of its own to resume: evaluations from before a kill
    are answered from a journal (``ramp.search.journal``).
    """

    seed: int
    evals: int  # how often problem.evaluate may be called
    out_dir: Path  # folder of artifacts that stay: policy.*
    log: Callable[[dict[str, Any]], None]  # takes one row per episode, see ramp.search.run
    method: str = ""  # the method's name, for the artifacts


@dataclass
class Allocation:
    """The result of an allocator. ``choice`` meets the budget; the other choices are recorded with it."""

    choice: np.ndarray  # [n] index into widths
    kind: str  # "proxy" (no search), "best" (best found, chosen on selection text) or "policy" (greedy)
    policy_choice: np.ndarray | None = None  # the learned policy's own greedy allocation
    start_choice: np.ndarray | None = None  # the warm start
    projected: bool = False  # the budget was enforced after the fact on what is reported
    notes: str = ""


def encode(choice: Sequence[int] | np.ndarray) -> str:
    """Return an allocation as one sign per linear: the index of its width, 0 to 9, then a to z."""
    return "".join(SIGNS[int(index)] for index in choice)


def decode(text: str) -> np.ndarray:
    """Return the allocation int64 [n] that ``encode`` gave ``text`` for."""
    return np.array([SIGNS.index(sign) for sign in text], dtype=np.int64)


def choose(problem: Problem, candidates: list[np.ndarray], quality: str = "kl") -> tuple[np.ndarray, int]:
    """Return the candidate with the least loss on selection text, and its position; the first one wins ties.

    A candidate whose selection loss is not finite is never chosen over another.
    """
    scores = [problem.select(candidate) for candidate in candidates]
    losses = [score.kl if quality == "kl" else score.nll for score in scores]
    where = int(np.argmin(losses))
    return candidates[where], where
