"""The files that a finished search leaves: its allocation, ``episodes.jsonl`` and ``summary.txt``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core.atomic_files import finite, write_text
from ramp.core.checksum_sidecar import write_with_sidecar
from ramp.problem.allocation import AllocationRecord, record_allocation, write_allocation
from ramp.quantizers.widths import bits_of, make_menu
from ramp.search.run import SearchRun


def write_results(
    search: SearchRun, method: str, *, seed: int, out: Path, artifacts: Path, **fields: Any
) -> AllocationRecord:
    """Write the allocation to ``out`` and the episodes and the summary into ``artifacts``; return the allocation.

    ``fields`` are those of the allocation that the search does not know: study, group_size, fold, quantizer.
    """
    found, problem = search.found, search.problem
    score = search.score("search", found.choice)
    record = record_allocation(
        problem,
        found.choice,
        kind=found.kind,
        method=method,
        seed=seed,
        policy_bits=problem.widths_of(found.policy_choice),
        start_bits=problem.widths_of(found.start_choice),
        projected=bool(found.projected),
        kl_search=search.kl("search", found.choice),
        ppl_search=None if score is None else finite(score.ppl),
        kl_selection=search.kl("selection", found.choice),
        kl_start=search.kl("search", found.start_choice),
        kl_start_selection=search.kl("selection", found.start_choice),
        kl_policy=search.kl("search", found.policy_choice),
        search_evals=search.spent,
        selection_evals=search.state.evaluators["selection"].evals,
        search_tokens=search.tokens,
        proxy_tokens=search.proxy_tokens,
        search_wall_s=round(search.state.wall_s, 3),
        notes=found.notes,
        **fields,
    )
    write_allocation(out, record)
    write_text(artifacts / "summary.txt", summary(record))
    rows = "".join(json.dumps(row, sort_keys=True) + "\n" for row in search.rows)
    write_with_sidecar(artifacts / "episodes.jsonl", rows)
    return record


def summary(record: AllocationRecord) -> str:
    """Return an allocation's record as a block of lines for people, each ending in a newline."""

    def number(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.5f}"

    counts = Counter(record.bits.values())
    spread = ", ".join(f"{counts[width]} at {width} bits" for width in make_menu(counts, record.group_size))
    mean = np.mean([bits_of(width) for width in record.bits.values()])
    left = record.budget_bytes - record.bytes_linear
    lines = [
        f"{record.method} on {record.model} at {record.budget_bits:g} bits, seed {record.seed}",
        f"bytes of linears    {record.bytes_linear} of {record.budget_bytes} ({left} left)",
        f"widths              {spread}; mean over linears {mean:.3f}",
        f"KL on search text   {number(record.kl_search)} nats per token (start {number(record.kl_start)}, "
        f"policy {number(record.kl_policy)})",
        f"KL on selection     {number(record.kl_selection)} nats per token (start {number(record.kl_start_selection)})",
        f"reported            {_reported(record)}",
        f"cost                {record.search_evals} evaluations, {record.search_tokens} forward tokens "
        f"({record.proxy_tokens} of them sensitivities), {record.search_wall_s:.0f} s",
    ]
    if record.notes:
        lines.append(f"note                {record.notes}")
    return "".join(f"{line}\n" for line in lines)


def _reported(record: AllocationRecord) -> str:
    """Say which of its allocations a search reports."""
    if record.kind == "proxy":
        return "the proxy's own allocation, no search"
    if record.kind == "policy":
        return "the policy's greedy allocation"
    return (
        "the warm start" if record.bits == record.start_bits else "the best allocation found, chosen on selection text"
    )
