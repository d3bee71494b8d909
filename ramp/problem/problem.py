"""What a search is given: linears, widths, exact bytes, a budget, and two counted ways to score an allocation.

An allocation is an integer vector ``choice`` [n]: for each linear, in forward order, an index into
``Problem.widths``. Sizes are ``bytes_linear`` (codes, scales and zeros) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec
from ramp.quantizers.widths import Width, bits_of, grouped
from ramp.scoring.score import Score

SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Of ``encode``; a menu of more entries would not fit on a disk either."""


class AllocationError(RampError):
    """No allocation meets the budget, or one that was handed in does not."""


@dataclass
class Counted:
    """An evaluator that counts its calls and its forward tokens; anything not finite becomes infinitely bad."""

    raw: Callable[[np.ndarray], Score]
    evals: int = 0
    tokens: int = 0
    limit: int | None = None  # evaluations allowed; None: any number

    def __call__(self, choice: np.ndarray) -> Score:
        if self.limit is not None and self.evals >= self.limit:
            raise AllocationError(
                f"the method asked for more than its {self.limit} evaluations: raise --evals or mend it"
            )
        kl, ppl, nll, tokens = self.raw(np.asarray(choice, dtype=np.int64))
        self.evals += 1
        self.tokens += int(tokens)
        if not (np.isfinite(kl) and np.isfinite(nll)):
            return Score(float("inf"), float("inf"), float("inf"), int(tokens))
        return Score(float(kl), float(ppl), float(nll), int(tokens))


@dataclass
class Problem:
    """One model, one menu of widths, one budget; ``evaluate`` and ``select`` are the only ways to the model."""

    model: str
    linears: list[LinearSpec]
    widths: tuple[
        Width, ...
    ]  # of each action, in the order of a menu (ramp.quantizers.widths): bits, or bits and groups
    bytes: np.ndarray  # int64 [n, w]: packed size of linear i at width a
    budget_bytes: int
    budget_bits: float
    features: np.ndarray  # float32 [n, 9]: static part of the embedding, see ramp.problem.features
    proxy: np.ndarray | None  # float64 [n, w]: additive predicted KL, nats per token; read it through use_proxy()
    evaluate: Callable[[np.ndarray], Score]  # on search text; counted against Run.evals
    select: Callable[[np.ndarray], Score]  # on selection text; counted apart
    proxy_tokens: int = 0  # forward tokens that the proxy cost (backward = 2 forward)
    nll_float: float = 0.0  # of the float model on the search tokens, nats per token
    bytes_at: Callable[[float], int] | None = None  # bits per weight -> budget in bytes of this model
    # search text in parts of equal size, one counted scorer each; for methods whose parameters ask for them, else empty
    search_parts: Sequence[Callable[[np.ndarray], Score]] = ()
    part_cost: float = 1.0  # what a part of search text costs of Run.evals: its tokens over those of one evaluate
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
        """float64 [w]: bits per weight that each action stands for, ascending.

        The widths themselves, where all linears have the study's groups; where group sizes differ scales and zeros
        count, over the whole model.
        """
        if not grouped(self.widths):
            return np.array(self.widths, dtype=np.float64)
        return 8.0 * self.bytes.sum(axis=0) / sum(linear.params for linear in self.linears)

    def use_proxy(self) -> np.ndarray:
        """The additive proxy [n, w]; from then on its forward tokens are charged to the run."""
        if self.proxy is None:
            raise AllocationError(
                f"this method needs additive sensitivities of {self.model} and none were given: pass --sensitivity"
            )
        self.proxy_used = True
        return self.proxy

    def bytes_of(self, choice: np.ndarray) -> int:
        """``bytes_linear`` of an allocation [n]."""
        return int(self.bytes[np.arange(self.n), np.asarray(choice)].sum())

    def is_feasible(self, choice: np.ndarray) -> bool:
        """Whether an allocation meets the budget."""
        return self.bytes_of(choice) <= self.budget_bytes

    def budget_bytes_at(self, bits: float) -> int:
        """The budget in bytes that ``bits`` per weight stands for; proportional where no rule was given."""
        if self.bytes_at is not None:
            return self.bytes_at(bits)
        return int(self.budget_bytes * bits / self.budget_bits)

    def check_budget(self) -> None:
        """Raise ``AllocationError`` when even the narrowest width everywhere does not fit."""
        check_budget(self.bytes, self.budget_bytes, self.widths, [linear.params for linear in self.linears])


def check_budget(
    sizes: np.ndarray, budget_bytes: int, widths: tuple[Width, ...] | None = None, params: list[int] | None = None
) -> None:
    """Raise unless the cheapest allocation of ``sizes`` [n, w] fits ``budget_bytes``.

    With ``widths`` and ``params`` the message says what the cheapest allocation is in bits per weight.
    """
    cheapest = sizes.min(axis=1)
    total = int(cheapest.sum())
    if total <= budget_bytes:
        return
    said = ""
    if widths is not None and params:
        bits = np.array([bits_of(width) for width in widths])[sizes.argmin(axis=1)]
        said = f" ({float(np.average(bits, weights=params)):.2f} bits)"
    raise AllocationError(
        f"budget below the cheapest allocation: {budget_bytes} bytes, cheapest {total}{said}; raise the budget"
    )


def _nothing_saved() -> dict[str, Any] | None:
    return None


def _keep_nothing(state: dict[str, Any]) -> None:
    return None


@dataclass
class Run:
    """What one run of an allocator may spend, and where it leaves its traces.

    An allocator that is deterministic in its seed resumes by itself: evaluations done before a crash are answered
    from a journal (``ramp.search.journal``). One whose own work is long may also ``save`` its state after an episode
    and ``load`` it at its start; states hold tensors, numbers, strings, lists and dictionaries.
    """

    seed: int
    evals: int  # how often problem.evaluate may be called
    out_dir: Path  # artifacts that stay: episodes.jsonl, policy.*
    state_dir: Path  # checkpoints of this very search, see ramp.search.journal
    log: Callable[[dict[str, Any]], None]  # one row per episode, see ramp.search.run
    method: str = ""  # the method's name, for what it writes
    save: Callable[[dict[str, Any]], None] = _keep_nothing
    load: Callable[[], dict[str, Any] | None] = _nothing_saved


@dataclass
class Allocation:
    """What an allocator hands back. ``choice`` meets the budget; the others are kept beside it."""

    choice: np.ndarray  # [n] index into widths
    kind: str  # "proxy" (no search), "best" (best found, chosen on selection text) or "policy" (greedy)
    policy_choice: np.ndarray | None = None  # the learned policy's own greedy allocation
    start_choice: np.ndarray | None = None  # the warm start
    projected: bool = False  # the budget was enforced after the fact on what is reported
    notes: str = ""


def encode(choice: Sequence[int] | np.ndarray) -> str:
    """An allocation as one sign per linear: the index of its width, 0 to 9, then a to z."""
    return "".join(SIGNS[int(index)] for index in choice)


def decode(text: str) -> np.ndarray:
    """``encode`` undone: int64 [n]."""
    return np.array([SIGNS.index(sign) for sign in text], dtype=np.int64)


def choose(problem: Problem, candidates: list[np.ndarray], quality: str = "kl") -> tuple[np.ndarray, int]:
    """The candidate with the least loss on selection text, and its position; the first one wins ties.

    A candidate whose selection loss is not finite is never chosen over another.
    """
    scores = [problem.select(candidate) for candidate in candidates]
    losses = [score.kl if quality == "kl" else score.nll for score in scores]
    where = int(np.argmin(losses))
    return candidates[where], where
