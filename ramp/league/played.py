"""One search of the league, read at its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.errors import RampError
from ramp.core.files import finite, read_json, require_file
from ramp.core.progress import Progress
from ramp.league.trace import Trace, thinned
from ramp.methods.kinds import Allocator
from ramp.problem.cost import charged_tokens, proxy_tokens
from ramp.problem.problem import Allocation, Problem, Run, decode, encode
from ramp.search.journal import State, read_journal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ramp.league.heldout import Judge


class LeagueError(RampError):
    """A league run that cannot be made, or a model that is not worth quantizing."""


@dataclass
class Played:
    """A search that is over: what it evaluated, what it says, and how to score on selection text."""

    trace: Trace
    found: Allocation
    problem: Problem
    state: State

    @property
    def start(self) -> str | None:
        """The warm start."""
        return None if self.found.start_choice is None else encode(self.found.start_choice)

    def kl(self, text: str, choice: str | None) -> float | None:
        """What the run measured of an allocation on ``search`` or ``selection`` text."""
        score = None if choice is None else self.state.known(text, decode(choice))
        return None if score is None else finite(score.kl)


def play(method: Allocator, params: BaseModel, problem: Problem, state: State, *, seed: int, evals: int) -> Played:
    """Run the search with every evaluation written down; a killed one goes on where it stopped."""
    evaluate = state.counters[0]
    trace, progress = Trace(), Progress(method.title, evals)

    def show(row: dict[str, Any]) -> None:
        logged(row)
        progress.show({"evals": evaluate.evals, **{key: finite(value) for key, value in row.items()}})

    def save(kept: dict[str, Any]) -> None:
        state.save({"method": kept, "trace": trace.dump()})

    def load() -> dict[str, Any] | None:
        kept = state.load()
        if kept is None:
            return None
        trace.restore(kept["trace"])
        return kept["method"]

    logged = trace.watch(problem, lambda: charged_tokens(problem, state.counters))
    artifacts = state.folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    run = Run(seed, evals, artifacts, state.folder, show, method.name, save, load)
    found = method.allocate(problem, params, run)
    progress.close()
    return Played(trace, found, problem, state)


def moments(checkpoints: Sequence[int], spent: int) -> list[int]:
    """Where a run is read: its checkpoints, or once at what it spent where it ended before the first of them."""
    return list(checkpoints) if spent >= checkpoints[0] else [spent]


def incumbent(played: Played, upto: int, last: bool) -> tuple[str | None, int, str]:
    """The incumbent after ``upto`` scores: its choice or None, how many were scored for it, and a note.

    ``last``: the run is over, so that what the method hands back stands in where it evaluated nothing feasible.
    """
    candidates = played.trace.finalists(upto, played.problem.budget_bytes, played.start)
    note = ""
    if not candidates:
        if not last:
            return None, 0, "no allocation within the budget so far"
        candidates = [encode(played.found.choice)]
        note = played.found.notes or "nothing within the budget was evaluated: what the method hands back"
    scores = [played.problem.select(decode(choice)).kl for choice in candidates]
    return candidates[int(np.argmin(scores))], len(candidates), note


def read_rows(played: Played, checkpoints: Sequence[int], wall: Sequence[float]) -> list[dict[str, Any]]:
    """One row per checkpoint, without held-out scores; ``wall`` [scores] are seconds up to each."""
    trace, problem = played.trace, played.problem
    rows = []
    for allowed in moments(checkpoints, trace.spent):
        upto = trace.upto(allowed)
        choice, scored, note = incumbent(played, upto, last=upto == len(trace))
        spent_tokens = trace.tokens[upto - 1] if upto else proxy_tokens(problem)
        rows.append(
            {
                "evals": allowed,
                "spent": trace.evals[upto - 1] if upto else 0,
                "tokens": spent_tokens + scored * selection_tokens(played),
                "choice": choice,
                "kl_search": played.kl("search", choice),
                "kl_selection": played.kl("selection", choice),
                "bytes_linear": None if choice is None else problem.bytes_of(decode(choice)),
                "wall_s": wall[upto - 1] if upto else 0.0,
                "note": note,
            }
        )
    return rows


def selection_tokens(played: Played) -> int:
    """Forward tokens of one score on selection text."""
    selection = [score.tokens for (text, _), score in played.state.scores.items() if text == "selection"]
    return selection[0] if selection else 0


def seconds(state: State, trace: Trace) -> list[float]:
    """Seconds up to every evaluation, over all processes: what the journal said when it was made."""
    made: dict[str, float] = {}
    for entry in read_journal(state.folder / "journal.jsonl"):
        if entry["text"].startswith("search"):
            made.setdefault(encode(entry["choice"]), round(float(entry["wall_s"]), 3))
    return [float(each) for each in np.maximum.accumulate([made.get(choice, 0.0) for choice in trace.choices] or [0.0])]


def read_curve(played: Played, points: int) -> list[dict[str, Any]]:
    """The anytime curve without held-out scores: the best feasible allocation on search text, whenever it changed."""
    trace = played.trace
    kept = thinned(trace.changes(played.problem.budget_bytes), len(trace), points)
    return [
        {
            "evals": trace.evals[position],
            "tokens": trace.tokens[position],
            "choice": trace.choices[position],
            "is_start": trace.choices[position] == played.start,
            "kl_search": trace.kl[position],
        }
        for position in kept
    ]


def judged(played: Played, rows: list[dict[str, Any]], curve: list[dict[str, Any]], judge: Judge) -> dict[str, Any]:
    """Start, rows and curve with their held-out scores."""
    for row in rows:
        row["windows"] = [] if row["choice"] is None else judge.windows_of(row["choice"])
        row["kl_held"] = None if row["choice"] is None else judge.kl_of(row["choice"])
    for point in curve:
        point["kl_held"] = judge.kl_of(point.pop("choice"))
    start = None
    if played.start is not None:
        start = {"choice": played.start, "kl_search": played.kl("search", played.start)}
        start["kl_held"] = judge.kl_of(played.start)
    return {"start": start, "rows": rows, "curve": curve}


def check_model(path: Path | None) -> dict[str, Any] | None:
    """The record of ``ramp.league.acceptance``; ``LeagueError`` where it refused the model."""
    if path is None:
        return None
    record = read_json(require_file(path, "acceptance of the model"))
    if not record["accepted"]:
        raise LeagueError(
            f"{record['model']} is not worth quantizing: uniform {record['bits']}-bit RTN costs it "
            f"{100 * record['increase_own']:.1f} % perplexity on its own text, {100 * record['limit']:g} % are asked "
            "for; train it longer (train_steps) or lower league.accept.increase"
        )
    return record
