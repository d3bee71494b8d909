"""The allocation file: what a search or a transfer writes and the quantizer, HALO and the records read.

| field | meaning |
| --- | --- |
| model, method, study, seed | which row this is |
| grid, group_size, fold, quantizer | how the linears are quantized (``affine`` always, here) |
| budget_bits, budget_bytes | the budget, and the bytes of packed linears that it stands for |
| kind | ``proxy`` (no search), ``best`` (best found, chosen on selection text) or ``policy`` (greedy) |
| bits | linear -> width (``ramp.quantizers.widths``), of every linear: what is reported |
| policy_bits, start_bits | the policy's own greedy allocation and the warm start, or null |
| projected | the budget was enforced after the fact on what is reported |
| bytes_linear | packed bytes of ``bits``, never above ``budget_bytes`` |
| kl_search, ppl_search | of ``bits`` on search text; nats per token; null where it was not evaluated |
| kl_selection | of ``bits`` on selection text, or null |
| kl_start, kl_policy | of ``start_bits`` and ``policy_bits`` on search text, or null |
| kl_start_selection | of ``start_bits`` on selection text, or null |
| search_evals | true evaluations on search text |
| search_tokens | forward tokens of everything: sensitivities (backward = 2), search and selection |
| selection_evals, proxy_tokens | the parts of it that are not search evaluations |
| search_wall_s | seconds, over all processes where the search was resumed |
| notes | what a reader of the row should know |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core.files import read_json, require_file, write_json
from ramp.models.architecture import LinearSpec
from ramp.problem.problem import AllocationError, Problem
from ramp.quantizers.widths import Width

KINDS = ("proxy", "best", "policy")
OPTIONAL: dict[str, Any] = {
    "study": "",
    "policy_bits": None,
    "start_bits": None,
    "kl_search": None,
    "ppl_search": None,
    "kl_selection": None,
    "kl_start": None,
    "kl_policy": None,
    "kl_start_selection": None,
    "search_evals": 0,
    "search_tokens": 0,
    "selection_evals": 0,
    "proxy_tokens": 0,
    "search_wall_s": 0.0,
    "projected": False,
    "notes": "",
}
REQUIRED = ("model", "method", "grid", "group_size", "fold", "quantizer", "budget_bits", "budget_bytes", "seed")


def as_bits(problem: Problem, choice: np.ndarray | None) -> dict[str, Width] | None:
    """A choice [n] as linear -> width."""
    if choice is None:
        return None
    return {linear.name: problem.widths[index] for linear, index in zip(problem.linears, choice, strict=True)}


def write_allocation(
    path: str | Path, problem: Problem, choice: np.ndarray, kind: str, **fields: Any
) -> dict[str, Any]:
    """Check an allocation, write its file, and return what was written; numbers that are not finite become null.

    Raises:
        AllocationError: a width index is out of range, the bytes exceed the budget, or a field is unknown or missing.
    """
    choice = np.asarray(choice)
    if choice.shape != (problem.n,) or choice.min() < 0 or choice.max() >= len(problem.widths):
        raise AllocationError(
            f"the method returned {choice.shape} indices: give one of 0..{len(problem.widths) - 1} per linear"
        )
    if not problem.is_feasible(choice):
        raise AllocationError(
            f"the method returned {problem.bytes_of(choice)} bytes, the budget is {problem.budget_bytes}: "
            "repair the allocation (ramp.allocators.greedy.repair)"
        )
    if kind not in KINDS:
        raise AllocationError(f"kind '{kind}' of an allocation is unknown (known: {', '.join(KINDS)})")
    record = {
        **OPTIONAL,
        "model": problem.model,
        "grid": "affine",
        "budget_bits": problem.budget_bits,
        "budget_bytes": problem.budget_bytes,
        "kind": kind,
        "bits": as_bits(problem, choice),
        "bytes_linear": problem.bytes_of(choice),
        **fields,
    }
    unknown = set(record) - {*REQUIRED, *OPTIONAL, "kind", "bits", "bytes_linear"}
    missing = set(REQUIRED) - set(record)
    if unknown or missing:
        raise AllocationError(f"allocation file: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
    record = {
        key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in record.items()
    }
    write_json(path, record)
    return record


def read_allocation(path: str | Path, linears: Sequence[LinearSpec] | None = None) -> Mapping[str, Any]:
    """An allocation file; with ``linears``, checked to name each of them and nothing else."""
    record = read_json(require_file(path, "allocation"))
    if linears is not None:
        names = {linear.name for linear in linears}
        odd = names ^ set(record["bits"])
        if odd:
            raise AllocationError(f"{path} does not fit this model: {len(odd)} linears differ, for instance {min(odd)}")
    return record
