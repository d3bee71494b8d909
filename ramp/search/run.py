"""Run one search: a method on a problem, its progress, its allocation and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.files import finite, write_text
from ramp.core.progress import Progress
from ramp.methods.kinds import Allocator
from ramp.problem.allocation import as_bits, write_allocation
from ramp.problem.cost import charged_tokens, proxy_tokens, spent_evals
from ramp.problem.problem import AllocationError, Problem, Run, encode
from ramp.search.journal import State
from ramp.search.summary import summary

if TYPE_CHECKING:
    from pydantic import BaseModel


def run_search(
    method: Allocator,
    params: BaseModel,
    problem: Problem,
    state: State,
    *,
    seed: int,
    evals: int,
    out: Path,
    artifacts: Path,
    fields: dict[str, Any],
) -> dict[str, Any]:
    """Run one method on one problem whose evaluators came from ``state.counted``; write and return its allocation.

    Args:
        fields: of the allocation file, what the problem does not know: study, group_size, fold, quantizer.
    """
    evaluate, select = state.counters[:2]
    parts = state.counters[2 : 2 + len(problem.search_parts)]
    progress = Progress(method.title, evals)

    def spent() -> int:
        return spent_evals(problem, evaluate.evals, sum(part.evals for part in parts))

    def keep(row: dict[str, Any]) -> None:
        tokens = charged_tokens(problem, state.counters)
        counted = {"episode": len(state.rows), "evals": spent(), "tokens": tokens}
        asked = {} if state.searched is None else {"choice": encode(state.searched)}
        state.rows.append({key: finite(value) for key, value in {**counted, **asked, **row}.items()})
        progress.show(state.rows[-1])

    artifacts.mkdir(parents=True, exist_ok=True)
    run = Run(seed, evals, artifacts, state.folder, keep, method.name, state.save, state.load)
    found = method.allocate(problem, params, run)
    progress.close()
    if spent() > evals:
        raise AllocationError(f"the method spent {spent()} evaluations, {evals} were given: raise --evals or mend it")

    def kl(text: str, choice: np.ndarray | None) -> float | None:
        score = state.known(text, choice)
        return None if score is None else finite(score.kl)

    said = state.known("search", found.choice)
    record = write_allocation(
        out,
        problem,
        found.choice,
        found.kind,
        method=method.name,
        seed=seed,
        policy_bits=as_bits(problem, found.policy_choice),
        start_bits=as_bits(problem, found.start_choice),
        projected=bool(found.projected),
        kl_search=kl("search", found.choice),
        ppl_search=None if said is None else finite(said.ppl),
        kl_selection=kl("selection", found.choice),
        kl_start=kl("search", found.start_choice),
        kl_start_selection=kl("selection", found.start_choice),
        kl_policy=kl("search", found.policy_choice),
        search_evals=spent(),
        selection_evals=select.evals,
        search_tokens=charged_tokens(problem, state.counters),
        proxy_tokens=proxy_tokens(problem),
        search_wall_s=round(state.wall_s, 3),
        notes=found.notes,
        **fields,
    )
    write_text(artifacts / "summary.txt", summary(record))
    write_text(artifacts / "episodes.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in state.rows))
    return record
