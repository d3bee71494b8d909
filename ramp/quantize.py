"""The final quantizer: every reported row, uniform or mixed, goes through ``quantize_model``.

Sequential with quantized predecessors. The folded float model is streamed block by block; inside a block the sites
are taken in forward order, attn_in -> o_in -> mlp_in -> down_in, each with the Hessian of what its linears read *now*,
all earlier linears being quantized already (GPTQ's ``true_sequential``, IST-DASLab/gptq). Then embedding and head
are stored by the study's track and everything is packed (``ramp.checkpoint``).

Methods ``float`` and ``released`` quantize nothing and write ``meta.json`` alone: the float row's sizes are those of a
hypothetical 16-bit file (marked ``simulated``), the released row's are the released file's own.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp import cli
from ramp.errors import RampError
from ramp.files import write_json
from ramp.models import CheckpointReader, LinearSpec, architecture, list_linears, pick_device, read_config
from ramp.reference_rows import SPECIAL, special_meta
from ramp.sizes import bits_nominal, group_size_for, linear_bytes
from ramp.widths import Width, check_bits, parse_width

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ramp.block_visit import BlockVisit
    from ramp.folding import Fold
    from ramp.quantizers.affine import QuantizedLinear

log = logging.getLogger("ramp.quantize")


class QuantizationError(RampError):
    """An allocation, fold or method that does not fit the model, the budget or the command line."""


def quantize_model(
    model_dir: str | Path,
    windows: Tensor | None,
    widths: Mapping[str, Width],
    *,
    fold: Fold,
    quantizer: str | Callable[..., QuantizedLinear],
    group_size: int,
    keep: Callable[[str, QuantizedLinear], None],
    device: torch.device | str,
    params: Any = None,
    batch: int = 4,
) -> dict[str, Tensor]:
    """Quantize every linear to its width, ``keep(name, quantized)`` site by site; return all other tensors.

    windows: int64 [count, length] calibration tokens, None where the quantizer needs none (``needs_hessian``).
    widths: linear -> width, in groups of ``group_size`` where it names none. The other tensors are folded, on the host,
    by their checkpoint names: norms, biases, embedding and, unless tied, head. Works in float32. Raises
    ``CalibrationError``, ``QuantizeError``, ``ModelError``.
    """
    import torch

    from ramp.calibration import each_block, stream
    from ramp.folding import folder
    from ramp.quantizers.site import needs_hessian, quantize_site

    config = read_config(model_dir)
    arch, linears, edit = architecture(config), list_linears(config), folder(fold, config)
    missing = [linear.name for linear in linears if linear.name not in widths]
    if missing:
        raise QuantizationError(f"the allocation does not name {missing[0]}: it belongs to another model")
    reader = CheckpointReader(model_dir)
    others: dict[str, Tensor] = {}
    calibrates = needs_hessian(quantizer, params)
    if calibrates and windows is None:
        raise QuantizationError("this quantizer calibrates: give calibration text (--text)")

    def quantize(weights: dict[str, Tensor], hessian: Tensor | None) -> dict[str, QuantizedLinear]:
        own = group_size_for(next(iter(weights.values())).shape[1], group_size, next(iter(weights)))
        menu = {name: [widths[name]] for name in weights}
        found = {name: q for (name, _), q in quantize_site(weights, hessian, menu, own, quantizer, params).items()}
        for name, q in found.items():
            keep(name, q)
        return found

    def collect_others(block: nn.Module, layer: int) -> None:
        names = {f"{path}.weight" for _, path in arch.linears}
        for name, tensor in block.state_dict().items():
            if name not in names:
                others[f"{arch.blocks}.{layer}.{name}"] = tensor.to("cpu", copy=True)

    def visit(block: BlockVisit) -> None:
        collect_others(block.block, block.layer)

        def change(kind: str, hessian: Tensor) -> None:
            roles = {block.specs[role].name: role for role in block.readers(kind)}
            weights = {name: block.linears[role].weight for name, role in roles.items()}
            for name, q in quantize(weights, hessian).items():
                block.replace(roles[name], q.dequantize(torch.float32))

        block.each_site(change)

    if calibrates and windows is not None:
        stream(model_dir, windows, visit, device=device, fold=edit, batch=batch)
    else:  # rounding looks at weights alone: the same result without a pass over text
        for block, modules in each_block(model_dir, device=device, fold=edit):
            collect_others(block, next(iter(modules)).layer)
            for linear, module in modules.items():
                quantize({linear.name: module.weight}, None)
    for path in (arch.embed, arch.final_norm, arch.head):
        if path != arch.head or not config.tie_word_embeddings:
            others[f"{path}.weight"] = reader.get(f"{path}.weight")
    return others


def uniform(linears: Sequence[LinearSpec], bits: int) -> dict[str, int]:
    """Every linear at one width."""
    return {linear.name: check_bits(bits) for linear in linears}


def allocated(
    path: str | Path, linears: Sequence[LinearSpec], *, group_size: int, fold: str, quantizer: str | None
) -> dict[str, Any]:
    """An allocation file that fits this model, fold, quantizer and group size, with its bytes counted again.

    Raises ``QuantizationError`` where one differs, where the packed linears would not take exactly the allocation's
    ``bytes_linear``, or where that exceeds its budget.
    """
    from ramp.allocation import read_allocation

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


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts KiB


def peak_gpu_bytes(device: torch.device) -> int | None:
    """Most memory that torch held on the GPU so far; None without one."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


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
    from ramp.calibration import calibration_windows
    from ramp.checkpoint import save_packed
    from ramp.folding import load_fold
    from ramp.methods import Mix, Package, Quantizer, load_method, own_fold, parse_params, reason_not_to_run
    from ramp.quantizers.site import needs_hessian
    from ramp.spilled import SpilledLinears

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
    wanted = [method.fold] if bits is None else [method.fold, own_fold(method.fold, bits)]
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
    parser.add_argument("--fold", help="fold file of ramp.folding")
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
