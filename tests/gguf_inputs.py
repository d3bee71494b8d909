"""Inputs of the GGUF export that tests make for themselves: calibration statistics and an allocation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ramp.models.architecture import list_linears
from ramp.problem.allocation import AllocationRecord
from tests.model_folders import read_config


def statistics(model_dir: Path, path: Path, power: int = 1) -> Path:
    """Write a calibration file of random mean squares; a higher power makes them less even."""
    generator = torch.Generator().manual_seed(0)
    sites = {linear.site: linear.d_in for linear in list_linears(read_config(model_dir))}
    tensors = {f"{s}/sqmean": torch.rand(n, generator=generator) ** power + 1e-3 for s, n in sites.items()}
    save_file(tensors, path, metadata={"ramp": json.dumps({"tokens": 2048, "length": 256})})
    return path


def allocation_of(model_dir: Path, widths: tuple[int, ...] = (3, 4, 5, 6), **changes: Any) -> AllocationRecord:
    """An allocation that gives the linears the ``widths`` in turn."""
    linears = list_linears(read_config(model_dir))
    bits = {linear.name: widths[linear.index % len(widths)] for linear in linears}
    made = {"model": "tiny", "method": "ramp", "budget_bits": 4.5, "group_size": 64, "seed": 0, "bits": bits}
    made |= {"budget_bytes": 1, "bytes_linear": 1, "fold": "none", "quantizer": "gptq", "kind": "best"}
    return AllocationRecord(**{**made, **changes})
