"""Records per linear: the widths of allocations, and the activations before and after folding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramp.methods.names import UNQUANTIZED
from ramp.models.architecture import LinearSpec
from ramp.models.folder import ModelFolder
from ramp.problem.allocation import AllocationRecord
from ramp.quantizers.sizes import linear_bytes
from ramp.quantizers.widths import Width, bits_of, split
from ramp.records.runs import named, orphan
from ramp.records.schema import KEY_NAMES
from ramp.records.table import RecordsError

Row = dict[str, Any]

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
"""Quantiles of the distribution over input channels: 1 is the outlier, 0.5 the typical channel."""


def linears_by_model(models: Sequence[Path]) -> dict[str, list[LinearSpec]]:
    """Return every linear of the models at the given folders, by the folder's name."""
    return {path.name: ModelFolder(path).linears for path in models}


def linears_of(model: str, linears: Mapping[str, list[LinearSpec]], where: str | Path) -> list[LinearSpec]:
    """Return the linears of one model; ``RecordsError`` names the file ``where`` that needs them."""
    if model not in linears:
        raise RecordsError(f"{where} is of model '{model}', whose folder was not given: add it to --models")
    return linears[model]


def ggml_bytes(linear: LinearSpec, type_name: str) -> int:
    """Return the bytes of a linear stored as a ggml type, from gguf's own table of block sizes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    return linear.d_out * linear.d_in // block * block_bytes


def ggml_bits(type_name: str) -> int:
    """Return the number in a ggml type's name: Q4_K 4, IQ4_NL 4, F16 16."""
    return int(type_name.lstrip("IQTFB").partition("_")[0])


def affine_type(width: Width) -> str:
    """Return ``affine``, or ``affine-g32`` where a width has a group size of its own."""
    group = split(width)[1]
    return "affine" if group is None else f"affine-g{group}"


def _place(linear: LinearSpec) -> Row:
    return {"linear": linear.name, "layer": linear.layer, "role": linear.role}


def _row(key: Row, which: str, linear: LinearSpec, bits: int | None, type_name: str, size: int) -> Row:
    return {**key, "which": which, **_place(linear), "bits": bits, "type": type_name, "bytes": size}


def reported_rows(meta: Mapping[str, Any], linears: Mapping[str, list[LinearSpec]], where: Path) -> Iterator[Row]:
    """Yield the widths that a row's file holds, from its meta.json; none for float, released and failed rows.

    Raises:
        RecordsError: the bytes of the linears do not sum to the row's ``bytes_linear``.
    """
    if meta["stage"] in UNQUANTIZED or meta.get("failed"):
        return
    key = named(meta, KEY_NAMES)
    specs = linears_of(meta["model"], linears, where)
    total = 0
    for linear in specs:
        if meta["grid"] == "ggml":
            type_name = meta["types"][linear.name]
            bits, size = ggml_bits(type_name), ggml_bytes(linear, type_name)
        elif "linears" in meta:  # of a package, which may have group sizes and grids of its own
            type_name, bits, size = (meta["linears"][linear.name][part] for part in ("type", "bits", "bytes"))
        else:
            width = meta["bits"][linear.name]
            type_name, bits = affine_type(width), bits_of(width)
            size = linear_bytes(linear.d_out, linear.d_in, width, meta["group_size"])
        total += size
        yield _row(key, "reported", linear, bits, type_name, size)
    if total != meta["bytes_linear"]:
        raise RecordsError(
            f"{where}: its linears take {total} bytes, its ledger holds {meta['bytes_linear']}: write the row again"
        )


def allocation_rows(
    allocation: AllocationRecord,
    keys: Mapping[tuple[Any, ...], Row],
    linears: Mapping[str, list[LinearSpec]],
    where: Path,
) -> Iterator[Row]:
    """Yield the policy's and the warm start's widths, where the method has them, under the reported row's key."""
    name = (allocation.model, allocation.method, allocation.budget_bits, allocation.seed)
    if name not in keys:
        raise orphan(where)
    specs = linears_of(allocation.model, linears, where)
    for which, widths in (("policy", allocation.policy_bits), ("start", allocation.start_bits)):
        if widths is None:
            continue
        for linear in specs:
            width = widths[linear.name]
            size = linear_bytes(linear.d_out, linear.d_in, width, allocation.group_size)
            yield _row(keys[name], which, linear, bits_of(width), affine_type(width), size)


def activation_rows(pairs: Sequence[tuple[Path, Path | None]], linears: Mapping[str, list[LinearSpec]]) -> list[Row]:
    """Return quantiles over channels of max|x| and mean|x|: as calibrated (fold ``none``) and divided by s.

    A fold divides a site's activations by its s (``ramp.calibration.folding``) and so its statistics, exactly; a site
    without a tensor in the fold file has s = 1.
    """
    from ramp.core.tensors import load_tensors

    found: dict[tuple[Any, ...], Row] = {}
    for calibration, fold in pairs:
        stats = load_tensors(calibration, "activation statistics", framework="np")
        scales = load_tensors(fold, "fold", framework="np") if fold else {}
        model = calibration.stem
        for name, divide in (("none", False), *([(fold.stem, True)] if fold else [])):
            for linear in linears_of(model, linears, calibration):
                divisor = scales[linear.site] if divide and linear.site in scales else 1.0
                quantiles = {
                    kind: np.quantile(stats[f"{linear.site}/{kind}"].astype(np.float64) / divisor, QUANTILES)
                    for kind in ("absmax", "absmean")
                }
                for index, quantile in enumerate(QUANTILES):
                    row = {"model": model, "fold": name, **_place(linear), "channel_quantile": quantile}
                    row |= {kind: float(values[index]) for kind, values in quantiles.items()}
                    found[model, name, linear.name, quantile] = row
    return list(found.values())
