"""One model quantized by our own GPTQ or AWQ, as tensors, for whole-model benchmarks and parity.

The settings are those of the comparison, not of a study: one width, one grid, the same windows for both sides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.measure import Sample


@dataclass(frozen=True)
class Quantized:
    """A quantized model: every changed tensor by checkpoint name, float32, and its cost."""

    state: dict[str, Tensor]
    sample: Sample


def processor_s() -> float:
    """Return processor seconds of this process and its finished children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def quantize_ours(
    method: str, model_dir: Path, windows: Tensor, bits: int, group_size: int, params: Mapping[str, Any]
) -> Quantized:
    """Quantize a model. ``gptq``: no fold. ``awq``: scales searched at this width and grid, then the clip search.

    windows: int64 [count, length]. ``params`` are those of the method's file in baselines/. Sequential, with quantized
    predecessors, as every reported row.
    """
    import torch

    from ramp.calibration.fold_search import FoldSearch, search_folds
    from ramp.methods.loader import find_method, load_method, parse_params
    from ramp.models.folder import ModelFolder
    from ramp.rows.sequential_quantization import quantize_model, uniform

    registered = load_method(find_method(Path(__file__).parents[1] / "baselines", method))
    given = parse_params(registered, dict(params))
    cpu, wall = processor_s(), time.perf_counter()
    fold: dict[str, Tensor] = {}
    if registered.fold != "none":
        sym = bool(getattr(given, "sym", False))
        fold, _ = search_folds(
            model_dir, windows, FoldSearch(registered.fold, [bits], group_size, sym=sym), device="cpu"
        )
    state: dict[str, Tensor] = {}
    others = quantize_model(
        model_dir, windows, uniform(ModelFolder(model_dir).linears, bits), fold=fold,
        quantizer=registered.quantizer, group_size=group_size, params=given, device="cpu",
        keep=lambda name, width, q: state.update({f"{name}.weight": q.dequantize(torch.float32)}),
    )  # fmt: skip
    sample = Sample(processor_s() - cpu, time.perf_counter() - wall)
    return Quantized({**state, **others}, sample)
