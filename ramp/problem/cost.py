"""What a search has spent so far: one way to count for searches and for the league."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ramp.problem.problem import Counted, Problem


def proxy_tokens(problem: Problem) -> int:
    """Forward tokens that the sensitivities cost, if the method read them."""
    return problem.proxy_tokens if problem.proxy_used else 0


def charged_tokens(problem: Problem, counters: Iterable[Counted]) -> int:
    """Forward tokens of every score, on search and on selection text, and of the sensitivities."""
    return sum(counter.tokens for counter in counters) + proxy_tokens(problem)


def spent_evals(problem: Problem, whole: int, parts: int) -> int:
    """Evaluations that ``whole`` scores on all of the search text and ``parts`` on parts of it stand for.

    Parts count by their tokens (``Problem.part_cost``), their sum rounded up.
    """
    return whole + math.ceil(problem.part_cost * parts - 1e-9)
