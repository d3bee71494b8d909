"""Build a bank: quantize every linear at every width, packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ramp.bank.bank import FORMAT_VERSION, INDEX, WEIGHTS, BankError
from ramp.calibration.block import BlockVisit
from ramp.calibration.folding import Fold, fold_digest
from ramp.calibration.stream import each_block, stream
from ramp.core.atomic_files import atomic_path, sha256_file, write_json
from ramp.models.architecture import LinearSpec
from ramp.models.folder import ModelFolder
from ramp.quantizers.site import needs_hessian, quantize_site
from ramp.quantizers.sizes import group_size_for, linear_bytes
from ramp.quantizers.store import PackedWriter
from ramp.quantizers.widths import Width, make_menu


def build_bank(
    model_dir: str | Path,
    windows: Tensor | None,
    out_dir: str | Path,
    *,
    fold: Fold,
    fold_name: str,
    quantizer: str,
    widths: Sequence[Width],
    group_size: int,
    device: torch.device | str,
) -> None:
    """Quantize every linear at every width and write the bank's folder, whole or not at all.

    windows: int64 [count, length] calibration tokens; None for ``rtn``, which needs none. Memory: one block, its
    Hessians and its quantized linears.
    """
    if needs_hessian(quantizer) and windows is None:
        raise BankError(f"quantizer '{quantizer}' calibrates: give calibration windows")
    widths = make_menu(widths, group_size)
    model = ModelFolder(model_dir)
    linears = model.linears
    index = {
        "format_version": FORMAT_VERSION,
        "fold": fold_name,
        "fold_sha256": fold_digest(fold),
        "quantizer": quantizer,
        "group_size": group_size,
        "widths": widths,
        "tokens": 0 if windows is None else windows.numel(),
    }
    moments: dict[str, tuple[float, float]] = {}
    menu = {linear.name: widths for linear in linears}
    with atomic_path(out_dir) as partial:
        partial.mkdir(parents=True)
        with PackedWriter(partial / WEIGHTS, linears, menu, group_size, {"widths": widths}) as file:

            def keep(weights: dict[str, Tensor], hessian: Tensor | None) -> None:
                moments.update({name: weight_moments(weight) for name, weight in weights.items()})
                for (linear, width), q in quantize_site(weights, hessian, menu, group_size, quantizer).items():
                    file.put(linear, width, q)

            def visit(block: BlockVisit) -> None:
                for kind, hessian in block.hessians().items():
                    keep({block.specs[role].name: block.linears[role].weight for role in block.readers(kind)}, hessian)

            if windows is not None:
                stream(model_dir, windows, visit, device=device, fold=fold)
            else:
                for _, modules in each_block(model_dir, device=device, fold=fold):
                    for linear, module in modules.items():
                        keep({linear.name: module.weight}, None)
        described = [describe(x, widths, group_size, moments[x.name]) for x in linears]
        write_json(
            partial / INDEX, {**index, "linears": described, "sha256": sha256_file(partial / WEIGHTS)}, sealed=True
        )


def weight_moments(weight: Tensor) -> tuple[float, float]:
    """Return (mean|W|, std W), two of the features that a policy reads."""
    wide = weight.double()
    return float(wide.abs().mean()), float(wide.std(correction=0))


def describe(
    linear: LinearSpec, widths: Sequence[Width], group_size: int, moments: tuple[float, float]
) -> dict[str, Any]:
    """Return a linear's entry in ``bank.json``."""
    own = group_size_for(linear.d_in, group_size, linear.name)
    sizes = {str(width): linear_bytes(linear.d_out, linear.d_in, width, own) for width in widths}
    absmean, std = moments
    return {**asdict(linear), "group_size": own, "bytes": sizes, "weight_absmean": absmean, "weight_std": std}
