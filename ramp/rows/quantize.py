"""Quantize one row of a study: ``python -m ramp.rows.quantize``."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.files import write_json
from ramp.models.architecture import LinearSpec, list_linears
from ramp.models.device import pick_device
from ramp.models.folder import read_config
from ramp.quantizers.sizes import bits_nominal, linear_bytes
from ramp.quantizers.widths import parse_width
from ramp.rows.float_rows import SPECIAL, special_meta

if TYPE_CHECKING:
    import torch

from ramp.core.memory import peak_gpu_bytes, peak_rss_bytes
from ramp.rows.sequential import QuantizationError, quantize_model, uniform

log = logging.getLogger("ramp.rows.sequential")


def allocated(
    path: str | Path, linears: Sequence[LinearSpec], *, group_size: int, fold: str, quantizer: str | None
) -> dict[str, Any]:
    """An allocation file that fits this model, fold, quantizer and group size, with its bytes counted again.

    Raises ``QuantizationError`` where one differs, where the packed linears would not take exactly the allocation's
    ``bytes_linear``, or where that exceeds its budget.
    """
    from ramp.problem.allocation import read_allocation

    found = dict(read_allocation(path, linears))
    for key, wanted in (("group_size", group_size), ("fold", fold), ("quantizer", quantizer)):
        if wanted is not None and found[key] != wanted:
            raise QuantizationError(f"{path} was searched with {key} {found[key]}, not {wanted}: search again")
    found["bits"] = {name: parse_width(width) for name, width in found["bits"].items()}
    size = sum(linear_bytes(x.d_out, x.d_in, found["bits"][x.name], group_size) for x in linears)
    if size != found["bytes_linear"]:
        raise QuantizationError(f"{path} says {found['bytes_linear']} bytes of linears, its widths take {size}")
    if size > found["budget_bytes"]:
        raise QuantizationError(f"{path} takes {size} bytes of linears, its budget is {found['budget_bytes']}")
    return found


def quantize_row(
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
    study: str,
    seed: int,
    device: torch.device,
    bits: int | None = None,
    allocation_file: str | Path | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One row: a uniform method at ``bits``, or an allocation file; returns what ``meta.json`` holds."""
    from ramp.calibration.folding import load_fold
    from ramp.calibration.windows import calibration_windows
    from ramp.methods.kinds import FoldRef, Mix, Package, Quantizer, reason_not_to_run
    from ramp.methods.loader import load_method, parse_params
    from ramp.quantizers.site import needs_hessian
    from ramp.quantizers.store import SpilledLinears
    from ramp.rows.checkpoint import save_packed

    started = time.monotonic()
    method, config = load_method(method_file), read_config(model_dir)
    if isinstance(method, Mix | Package):
        stage = "static_mix" if isinstance(method, Mix) else "package_job"
        raise QuantizationError(f"method '{method.name}' is quantized by other software than ours: run ramp.{stage}")
    if reason := reason_not_to_run(method):
        raise QuantizationError(f"method '{method.name}' cannot run here: {reason}")
    if isinstance(method, Quantizer) and method.group_size is not None:
        group_size = method.group_size
    linears, fold = list_linears(config), load_fold(fold_file, config)
    fold_name = Path(fold_file).stem
    wanted = [method.fold] if bits is None else [method.fold, str(FoldRef(method.fold, bits))]
    if fold_name not in wanted:
        names = " or ".join(f"'{name}'" for name in wanted)
        raise QuantizationError(f"method '{method.name}' wants the fold {names}, --fold is {fold_file}")
    # An allocator's parameters are its search's; its linears are quantized with the defaults, as in its bank.
    quantizer_params = parse_params(method, dict(params or {})) if isinstance(method, Quantizer) else None
    if allocation_file is not None:
        named = method.quantizer if isinstance(method.quantizer, str) else None
        row = allocated(allocation_file, linears, group_size=group_size, fold=fold_name, quantizer=named)
        widths, name, budget = row["bits"], row["method"], float(row["budget_bits"])
    elif bits is not None:
        widths, name, budget = uniform(linears, bits), method.name, float(bits)
    else:
        raise QuantizationError("nothing says how wide linears are: pass --bits or --allocation")
    windows = None
    if needs_hessian(method.quantizer, quantizer_params):
        windows = calibration_windows(model_dir, text, tokens=tokens, length=length)

    out = Path(out_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as spill:
        packed = SpilledLinears(Path(spill) / "linears.safetensors", linears, widths, group_size)
        others = quantize_model(
            model_dir, windows, widths, fold=fold, quantizer=method.quantizer, group_size=group_size,
            keep=packed.put, device=device, params=quantizer_params,
        )  # fmt: skip
        packed.finish()
        meta = {
            "study": study, "model": Path(model_dir).name, "method": name, "grid": "affine", "stage": "final",
            "budget_bits": budget, "group_size": group_size, "fold": fold_name, "seed": seed,
            "quantizer": method.quantizer if isinstance(method.quantizer, str) else method.name,
            "params": quantizer_params.model_dump() if quantizer_params is not None else {},
            "bits": widths, "calibration_tokens": 0 if windows is None else windows.numel(),
            "simulated": True, "note": "",
            "wall_s": round(time.monotonic() - started, 3),
            "peak_rss_bytes": peak_rss_bytes(), "peak_gpu_bytes": peak_gpu_bytes(device),
        }  # fmt: skip
        return save_packed(out, model_dir=model_dir, quantized=packed, others=others, track=track, meta=meta)


def main(argv: Sequence[str] | None = None) -> int:
    """Quantize one row, or write the sizes of the float model or the released file."""
    parser = cli.parser("Quantize a model sequentially, with quantized predecessors, and pack it.")
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    parser.add_argument("--fold", help="fold file of ramp.calibration.folding")
    parser.add_argument("--method-file", required=True, help="file that registers the method; or: float, released")
    widths = parser.add_mutually_exclusive_group()
    widths.add_argument("--allocation", help="allocation file of a mixed row")
    widths.add_argument("--bits", type=int, help="width of a uniform row")
    parser.add_argument("--params", default="{}", help="JSON object: parameters of a uniform method")
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument("--track", choices=("q8_0", "fp16"), default="q8_0", help="how embedding and head are stored")
    parser.add_argument("--seed", type=int, default=0, help="seed of the row's key; nothing is drawn here")
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args(argv)
    if args.method_file in SPECIAL:
        write_json(Path(args.out) / "meta.json", special_meta(args.method_file, args.model_dir, args.study, args.seed))
        return 0
    for option in ("text", "fold"):
        if getattr(args, option) is None:
            raise QuantizationError(f"--{option} is needed for every method but {' and '.join(SPECIAL)}")
    try:
        params = json.loads(args.params)
    except json.JSONDecodeError as error:
        raise QuantizationError(f"--params is not a JSON object ({error})") from None
    cli.set_threads(args.threads)
    meta = quantize_row(
        args.model_dir, args.out, method_file=args.method_file, fold_file=args.fold, text=args.text,
        tokens=args.tokens, length=args.length, group_size=args.group_size, track=args.track, study=args.study,
        seed=args.seed, device=pick_device(args.device), bits=args.bits, allocation_file=args.allocation, params=params,
    )  # fmt: skip
    linears = list_linears(read_config(args.model_dir))
    weighted, _ = bits_nominal(meta["bits"], linears)
    log.info(
        "%s: %.3f bits, %d bytes of linears, %d in all", args.out, weighted, meta["bytes_linear"], meta["bytes_file"]
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
