"""Inputs of the GGUF export that tests make for themselves: calibration statistics and an allocation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ramp.export.llamacpp import LlamaCpp, window_nll
from ramp.export.llamacpp_check import tokenizer_differences
from ramp.models.architecture import list_linears
from ramp.models.folder import ModelFolder
from ramp.problem.allocation import AllocationRecord
from tests.model_folders import read_config
from tests.sealed import save_sealed


def statistics(model_dir: Path, path: Path, power: int = 1) -> Path:
    """Write a calibration file of random mean squares; a higher power makes them less even."""
    generator = torch.Generator().manual_seed(0)
    sites = {linear.site: linear.d_in for linear in list_linears(read_config(model_dir))}
    tensors = {f"{s}/sqmean": torch.rand(n, generator=generator) ** power + 1e-3 for s, n in sites.items()}
    save_sealed(tensors, path, {"tokens": 2048, "length": 256})
    return path


def allocation_of(model_dir: Path, widths: tuple[int, ...] = (3, 4, 5, 6), **changes: Any) -> AllocationRecord:
    """An allocation that gives the linears the ``widths`` in turn."""
    linears = list_linears(read_config(model_dir))
    bits = {linear.name: widths[linear.index % len(widths)] for linear in linears}
    made = {"model": "tiny", "method": "ramp", "budget_bits": 4.5, "group_size": 64, "seed": 0, "bits": bits}
    made |= {"budget_bytes": 1, "bytes_linear": 1, "fold": "none", "quantizer": "gptq", "kind": "best"}
    return AllocationRecord(**{**made, **changes})


def llama_nll(path: Path, windows: torch.Tensor) -> np.ndarray:
    """Every token's negative log-likelihood by llama.cpp, [windows, length - 1]."""
    llama = LlamaCpp(path, context=windows.shape[1], threads=1)
    found = np.stack([window_nll(llama, window.tolist()) for window in windows])
    llama.close()
    return found


def tokens_that_differ(path: Path, model_dir: Path, texts: list[str]) -> int:
    """Texts that llama.cpp's tokenizer of a file and the model's own split differently."""
    llama = LlamaCpp(path, context=16, threads=1)
    found = tokenizer_differences(llama, ModelFolder(model_dir).tokenizer(), texts)
    llama.close()
    return found
