"""A search read at its checkpoints: its incumbent after so many evaluations, what that cost, and its anytime curve.

The league's rule is one for all methods: after e evaluations on search text the incumbent is the best on selection text
among the five best feasible allocations on search text so far and the start. A method's own choice plays no part, so
that methods differ in what they evaluate and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.problem.problem import decode, encode
from ramp.search.run import Evaluation, SearchRun, comparable, ranked

if TYPE_CHECKING:
    from ramp.league.heldout_scorer import HeldoutScorer

FINALISTS = 5
"""Best allocations on search text that are scored on selection text, besides the start."""


def moments(checkpoints: Sequence[int], spent: int) -> list[int]:
    """Return the checkpoints at which a run is read; its end alone, where it ended before the first of them."""
    return list(checkpoints) if spent >= checkpoints[0] else [spent]


def finalists(
    evaluations: Sequence[Evaluation], upto: int, budget_bytes: int, start: str | None, count: int = FINALISTS
) -> list[str]:
    """Return the candidates of the incumbent after ``upto`` scores: the start, then the ``count`` best."""
    best = [each.choice for each in ranked(evaluations, upto, budget_bytes)[:count]]
    return list(dict.fromkeys([*([start] if start else []), *best]))


def incumbent(search: SearchRun, upto: int, count: int = FINALISTS) -> tuple[str | None, int, str]:
    """Return the incumbent after ``upto`` scores: its choice or None, how many were scored for it, and a note.

    At the end of a run without a feasible evaluation it is the allocation that the method returned.
    """
    candidates = finalists(search.evaluations, upto, search.problem.budget_bytes, search.start, count)
    note = ""
    if not candidates:
        if upto < len(search.evaluations):
            return None, 0, "no allocation within the budget so far"
        candidates = [encode(search.found.choice)]
        note = search.found.notes or "nothing within the budget was evaluated: the method's own allocation"
    scores = [search.problem.select(decode(choice)).kl for choice in candidates]
    return candidates[int(np.argmin(scores))], len(candidates), note


def read_rows(search: SearchRun, checkpoints: Sequence[int], wall: Sequence[float]) -> list[dict[str, Any]]:
    """Return one row per checkpoint, without held-out scores; ``wall`` [scores] are seconds up to each."""
    rows = []
    for allowed in moments(checkpoints, search.spent):
        upto = search.upto(allowed)
        choice, scored, note = incumbent(search, upto)
        last = search.evaluations[upto - 1] if upto else None
        rows.append(
            {
                "evals": allowed,
                "spent": last.evals if last else 0,
                "tokens": (last.tokens if last else search.proxy_tokens) + scored * selection_tokens(search),
                "choice": choice,
                "kl_search": search.kl("search", choice),
                "kl_selection": search.kl("selection", choice),
                "bytes_linear": None if choice is None else search.problem.bytes_of(decode(choice)),
                "wall_s": wall[upto - 1] if upto else 0.0,
                "note": note,
            }
        )
    return rows


def selection_tokens(search: SearchRun) -> int:
    """Return the forward tokens of one score on selection text."""
    return next((score.tokens for (text, _), score in search.state.scores.items() if text == "selection"), 0)


def seconds(search: SearchRun) -> list[float]:
    """Return the seconds up to every evaluation, over all processes, from the journal."""
    made: dict[str, float] = {}
    for entry in search.state.journal.read():
        if entry.text.startswith("search"):
            made.setdefault(encode(entry.choice), round(entry.wall_s, 3))
    walls = [made.get(each.choice, 0.0) for each in search.evaluations] or [0.0]
    return [float(wall) for wall in np.maximum.accumulate(walls)]


def changes(evaluations: Sequence[Evaluation], budget_bytes: int) -> list[int]:
    """Return the positions at which the best feasible allocation on search text changed.

    Of an allocation that is scored several times in a row, part by part, the last score is the one on all parts.
    """
    best, found = np.inf, []
    places = comparable(evaluations, len(evaluations))
    for position, after in zip(places, [*places[1:], None], strict=True):
        each = evaluations[position]
        if after is not None and not each.whole and evaluations[after].choice == each.choice:
            continue
        if each.bytes <= budget_bytes and each.kl < best:
            best = each.kl
            found.append(position)
    return found


def thinned(changed: Sequence[int], length: int, points: int) -> list[int]:
    """Return the positions among ``changed`` that hold at ``points`` log-spaced moments of ``length``.

    The first and the last are always kept.
    """
    if not changed:
        return []
    at = np.unique(np.round(np.geomspace(changed[0] + 1, max(length, changed[0] + 1), max(points, 1))).astype(int))
    holding = {max(position for position in changed if position < moment) for moment in at}
    return sorted(holding | {changed[0], changed[-1]})


def read_curve(search: SearchRun, points: int) -> list[dict[str, Any]]:
    """Return the anytime curve without held-out scores: the best feasible allocation, whenever it changed."""
    changed = changes(search.evaluations, search.problem.budget_bytes)
    kept = [search.evaluations[position] for position in thinned(changed, len(search.evaluations), points)]
    return [
        {
            "evals": each.evals,
            "tokens": each.tokens,
            "choice": each.choice,
            "is_start": each.choice == search.start,
            "kl_search": each.kl,
        }
        for each in kept
    ]


def add_heldout(
    search: SearchRun, rows: list[dict[str, Any]], curve: list[dict[str, Any]], scorer: HeldoutScorer
) -> dict[str, Any]:
    """Return start, rows and curve with their held-out scores."""
    for row in rows:
        row["windows"] = [] if row["choice"] is None else scorer.windows_of(row["choice"])
        row["kl_held"] = None if row["choice"] is None else scorer.kl_of(row["choice"])
    for point in curve:
        point["kl_held"] = scorer.kl_of(point.pop("choice"))
    start = None
    if search.start is not None:
        start = {"choice": search.start, "kl_search": search.kl("search", search.start)}
        start["kl_held"] = scorer.kl_of(search.start)
    return {"start": start, "rows": rows, "curve": curve}
