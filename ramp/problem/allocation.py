"""The allocation file: written by a search or a transfer, read by the quantizer, HALO, evaluation and the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ramp.core.atomic_files import faults, finite, read_json, require_file, write_json
from ramp.models.architecture import LinearSpec
from ramp.problem.budget import AllocationError
from ramp.problem.problem import Problem
from ramp.quantizers.sizes import linear_bytes
from ramp.quantizers.widths import Width, parse_width

Widths = dict[str, Annotated[Width, BeforeValidator(parse_width)]]
"""Linear -> width (``ramp.quantizers.widths``)."""

Number = Annotated[float | None, BeforeValidator(finite)]
"""A float; null where it was not measured or is not finite."""


class AllocationRecord(BaseModel):
    """A width for every linear of one model, with the search that found it: the content of an allocation file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str  # folder name of the model
    method: str  # allocator; {source method}_transfer for a transferred policy
    study: str = ""  # name of the study
    seed: int  # seed of the search
    grid: Literal["affine"] = "affine"  # grid of the linears
    group_size: int  # weights per scale where a width names none
    fold: str  # fold of the bank that was searched
    quantizer: str  # quantizer of that bank
    budget_bits: float  # budget in bits per weight
    budget_bytes: int  # the same in bytes of the packed linears
    kind: Literal["proxy", "best", "policy"]  # best: chosen on selection text; policy: greedy; proxy: no search
    bits: Widths  # width of every linear: the reported allocation
    policy_bits: Widths | None = None  # the policy's own greedy allocation
    start_bits: Widths | None = None  # the warm start
    projected: bool = False  # whether the budget was enforced on bits afterwards
    bytes_linear: int  # packed bytes of bits, never above budget_bytes
    kl_search: Number = None  # KL of bits on search text, nats per token
    ppl_search: Number = None  # perplexity of bits on search text
    kl_selection: Number = None  # KL of bits on selection text, nats per token
    kl_start: Number = None  # KL of start_bits on search text, nats per token
    kl_policy: Number = None  # KL of policy_bits on search text, nats per token
    kl_start_selection: Number = None  # KL of start_bits on selection text, nats per token
    search_evals: int = 0  # true evaluations on search text
    search_tokens: int = 0  # forward tokens of everything: sensitivities (backward = 2), search and selection
    selection_evals: int = 0  # evaluations on selection text
    proxy_tokens: int = 0  # the part of search_tokens that sensitivities cost
    search_wall_s: float = 0.0  # seconds, over all processes of a resumed search
    notes: str = ""  # remarks for readers of the row


def record_allocation(problem: Problem, choice: np.ndarray, **fields: Any) -> AllocationRecord:
    """Return the record of an allocation [n] that a method returned; ``fields`` are what the problem does not know.

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
    known = {
        "model": problem.model,
        "budget_bits": problem.budget_bits,
        "budget_bytes": problem.budget_bytes,
        "bits": problem.widths_of(choice),
        "bytes_linear": problem.bytes_of(choice),
    }
    try:
        return AllocationRecord.model_validate(known | fields)
    except ValidationError as error:
        raise AllocationError(f"this allocation cannot be written: {faults(error)}") from None


def write_allocation(path: str | Path, record: AllocationRecord) -> None:
    """Write an allocation file."""
    write_json(path, record.model_dump(), sealed=True)


def read_allocation(path: str | Path, linears: Sequence[LinearSpec] | None = None, **expected: Any) -> AllocationRecord:
    """Read an allocation file; check fields that must have given values (None: any) and, by ``linears``, its model.

    Raises:
        AllocationError: the file is damaged, differs from ``expected``, names other linears than the model's, or its
            widths take other than ``bytes_linear`` bytes or more than its budget.
    """
    record = read_json(require_file(path, "allocation"), AllocationRecord, again="search again")
    for name, value in expected.items():
        if value is not None and getattr(record, name) != value:
            raise AllocationError(f"{path} was searched with {name} {getattr(record, name)}, not {value}: search again")
    if linears is None:
        return record
    unknown = {linear.name for linear in linears} ^ set(record.bits)
    if unknown:
        raise AllocationError(
            f"{path} does not fit this model: {len(unknown)} linears differ, for instance {min(unknown)}"
        )
    size = sum(linear_bytes(x.d_out, x.d_in, record.bits[x.name], record.group_size) for x in linears)
    if size != record.bytes_linear:
        raise AllocationError(f"{path} holds {record.bytes_linear} as bytes of linears, its widths take {size}")
    if size > record.budget_bytes:
        raise AllocationError(f"{path} takes {size} bytes of linears, its budget is {record.budget_bytes}")
    return record
