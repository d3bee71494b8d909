"""Build one row: quantize every linear at its width, sequentially, and write the packed checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ramp.calibration.folding import load_fold
from ramp.calibration.windows import calibration_windows
from ramp.core.provenance import peak_gpu_bytes, peak_rss_bytes
from ramp.core.stale_temporaries import scratch_folder
from ramp.methods.kinds import FoldRef, Mix, Package, Quantizer, reason_not_to_run
from ramp.methods.loader import load_method, parse_params
from ramp.models.folder import ModelFolder
from ramp.problem.allocation import read_allocation
from ramp.quantizers.site import needs_hessian
from ramp.quantizers.store import PackedWriter
from ramp.quantizers.widths import Width
from ramp.rows.checkpoint import save_packed
from ramp.rows.sequential_quantization import QuantizationError, quantize_model, uniform


def build_row(
    model_dir: str | Path,
    out_dir: str | Path,
    *,
    method_file: str | Path,
    fold_file: str | Path,
    text: str | Path,
    tokens: int,
    length: int,
    group_size: int,
    track: str,
    device: torch.device,
    bits: int | None = None,
    allocation_file: str | Path | None = None,
    params: Mapping[str, Any] | None = None,
    study: str = "",
    seed: int = 0,
    draw: int = 0,
    leak: str = "",
    any_fold: bool = False,
) -> dict[str, Any]:
    """Write one row, at the uniform width ``bits`` or by an allocation file; return the content of ``meta.json``.

    text, tokens, length, draw: calibration text, read where the quantizer needs it; ``meta.json`` names a draw above 0.
    leak: levels of that text and of the search's, where they are nearer to the held-out text than the study's own:
    ``meta.json`` says so, and the records refuse the row. any_fold: accept a fold that is not the method's own.
    Raises ``QuantizationError``, ``CheckpointError``, ``CalibrationError``, ``FoldingError``.
    """
    started = time.monotonic()
    method, model = load_method(method_file), ModelFolder(model_dir)
    if isinstance(method, Mix | Package):
        stage = "ramp.export.static_mix" if isinstance(method, Mix) else "ramp.packages.prepare_job"
        raise QuantizationError(f"method '{method.name}' does not use this suite's quantizers: run {stage}")
    if reason := reason_not_to_run(method):
        raise QuantizationError(f"method '{method.name}' cannot run here: {reason}")
    if isinstance(method, Quantizer) and method.group_size is not None:
        group_size = method.group_size
    linears, fold, fold_name = model.linears, load_fold(fold_file, model.config), Path(fold_file).stem
    wanted = [method.fold] if bits is None else [method.fold, str(FoldRef(method.fold, bits))]
    if fold_name not in wanted and not any_fold:
        names = " or ".join(f"'{name}'" for name in wanted)
        raise QuantizationError(f"method '{method.name}' wants the fold {names}, --fold is {fold_file}")
    # An allocator's parameters are those of its search; its linears are quantized with defaults, as in its bank.
    quantizer_params = parse_params(method, dict(params or {})) if isinstance(method, Quantizer) else None
    widths: dict[str, Width]
    if allocation_file is not None:
        quantizer = method.quantizer if isinstance(method.quantizer, str) else None
        row = read_allocation(allocation_file, linears, group_size=group_size, fold=fold_name, quantizer=quantizer)
        widths, name, budget = row.bits, row.method, row.budget_bits
    elif bits is not None:
        widths, name, budget = {**uniform(linears, bits)}, method.name, float(bits)
    else:
        raise QuantizationError("the linears have no widths: pass --bits or --allocation")
    windows = None
    if needs_hessian(method.quantizer, quantizer_params):
        windows = calibration_windows(model_dir, text, tokens=tokens, length=length, draw=draw)

    out = Path(out_dir)
    with scratch_folder(out) as scratch:
        menu = {linear: [width] for linear, width in widths.items()}
        with PackedWriter(scratch / "linears.safetensors", linears, menu, group_size) as packed:
            others = quantize_model(
                model_dir, windows, widths, fold=fold, quantizer=method.quantizer, group_size=group_size,
                keep=packed.put, device=device, params=quantizer_params,
            )  # fmt: skip
        meta = {
            "study": study, "model": model.name, "method": name, "grid": "affine", "stage": "final",
            "budget_bits": budget, "group_size": group_size, "fold": fold_name, "seed": seed,
            "quantizer": method.quantizer if isinstance(method.quantizer, str) else method.name,
            "params": quantizer_params.model_dump() if quantizer_params is not None else {},
            "bits": widths, "calibration_tokens": 0 if windows is None else windows.numel(),
            **({"draw": draw} if draw else {}), **({"leak": leak} if leak else {}), "simulated": True, "note": "",
            "wall_s": round(time.monotonic() - started, 3),
            "peak_rss_bytes": peak_rss_bytes(), "peak_gpu_bytes": peak_gpu_bytes(device),
        }  # fmt: skip
        return save_packed(out, model_dir=model_dir, quantized=packed.read(), others=others, track=track, meta=meta)
