"""HALO: write an allocation as a GGUF file that stock llama.cpp runs, and prove that it is what it should be.

    python -m ramp.export.halo export --model-dir D --fold F --allocation F --calibration F --track q8_0 --out F.gguf
    python -m ramp.export.halo float  --model-dir D --out F.gguf
    python -m ramp.export.halo check  --gguf F --plan F --model-dir D --text F --length 512 --windows 2 --limit 0.03
    --out F
    python -m ramp.export.halo row    --gguf F --plan F --model-dir D --study S --allocation F --out R/quantized/M/ROW

``export`` and ``float`` write ``F.gguf``, ``F.plan.json`` (tensor -> type, shape, bytes, sha256, reason of a fallback;
the size ledger) and ``F.types.txt`` (llama.cpp's ``--tensor-type-file``). ``check`` writes a list of
``{file, check, value, limit, ok}`` and exits 1 if one failed, with ``--keep-going`` (the workflow) 0: the record says
so, and tables and claims go by it. ``row`` writes the folder that evaluation reads.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.files import read_json, require_file, write_json, write_text
from ramp.export.row import row_note, write_row
from ramp.export.write_gguf import describe, plan_tensors, read_importance, type_lines, write_gguf
from ramp.gguf.names import HaloError
from ramp.models.folder import read_config

if TYPE_CHECKING:
    import torch

__all__ = ["HaloError", "export", "export_float", "main", "row_note", "write_row"]

log = logging.getLogger("ramp.export.halo")

FLOAT_LIMIT = 0.001
"""Relative difference in perplexity between llama.cpp and transformers allowed for a float32 file."""

QUANTIZED_LIMIT = 0.03
"""The same for quantized files: on a CPU llama.cpp rounds the activations to 8 bits before each product."""


def beside(out: Path, suffix: str) -> Path:
    """``row.gguf`` -> ``row`` + suffix; ``HaloError`` if ``out`` is not named ``*.gguf``."""
    if out.suffix != ".gguf":
        raise HaloError(f"{out} is not named *.gguf: llama.cpp's tools expect that ending")
    return out.with_suffix(suffix)


def read_allocation(path: str | Path) -> dict[str, Any]:
    """An allocation file's content; ``HaloError`` if it lacks the widths or what names its row."""
    allocation = read_json(path)
    missing = [key for key in ("method", "budget_bits", "group_size", "seed", "bits") if key not in allocation]
    if missing:
        raise HaloError(f"{path} is not an allocation: it lacks {', '.join(missing)}")
    return dict(allocation)


def export(
    model_dir: str | Path,
    allocation: Mapping[str, Any],
    calibration: str | Path,
    out: str | Path,
    *,
    fold: str | Path | None = None,
    track: str = "q8_0",
) -> dict[str, Any]:
    """Write the GGUF file of an allocation, its plan and its type file; return the plan.

    ``allocation`` is an allocation file's content (``ramp.problem.allocation``), ``fold`` a file of scales or
    None. The weights are the float checkpoint's with the fold applied, the importance the calibration's mean squares
    divided by s^2.
    """
    started, out = time.monotonic(), Path(out)
    types_path, plan_path = beside(out, ".types.txt"), beside(out, ".plan.json")
    config = read_config(model_dir)
    scales: dict[str, torch.Tensor] = {}
    if fold is not None:
        from ramp.calibration.folding import load_fold

        scales = load_fold(fold, config)
    plan = plan_tensors(config, allocation["bits"], track)
    name = str(allocation.get("model") or Path(model_dir).name)
    importance = read_importance(calibration, scales)
    plan = write_gguf(out, model_dir, plan, name=name, fold=scales, importance=importance)
    content = describe(
        plan,
        out,
        config,
        kind="quantized",
        model=name,
        track=track,
        fold="none" if fold is None else Path(fold).stem,
        allocation=allocation,
        started=started,
    )
    write_text(types_path, type_lines(plan))
    write_json(plan_path, content)
    _log_sizes(out, content)
    return content


def export_float(model_dir: str | Path, out: str | Path) -> dict[str, Any]:
    """Write the unfolded model as a float32 GGUF file with its plan; return the plan."""
    started, out = time.monotonic(), Path(out)
    plan_path = beside(out, ".plan.json")
    config = read_config(model_dir)
    name = Path(model_dir).name
    plan = write_gguf(out, model_dir, plan_tensors(config, None, "fp16"), name=name)
    content = describe(
        plan, out, config, kind="float", model=name, track="f32", fold="none", allocation=None, started=started
    )
    write_json(plan_path, content)
    _log_sizes(out, content)
    return content


def _log_sizes(out: Path, plan: Mapping[str, Any]) -> None:
    sizes = plan["sizes"]
    log.info("%s: %d bytes, linears %d", out.name, sizes["bytes_file"], sizes["bytes_linear"])
    for note in plan["notes"]:
        log.info("%s: %s", out.name, note)


def check(args: Any) -> int:
    """Run every check of one file, write the records, say which failed; 0 if none did, or with --keep-going."""
    from ramp.export.check import check_layout, check_llama, sample_texts, token_windows_of

    plan, path = read_json(args.plan), require_file(args.gguf, "GGUF file")
    limit = args.limit
    if limit is None:
        limit = FLOAT_LIMIT if plan["kind"] == "float" else QUANTIZED_LIMIT
    windows = token_windows_of(args.model_dir, args.text, args.length, args.windows)
    checks = check_layout(path, plan)
    if any(not one["ok"] for one in checks):  # what follows would read tensors that are not there
        log.error("%s is not what its plan says: llama.cpp is not asked", path.name)
    else:
        texts, threads = sample_texts(args.text), args.threads or 2
        checks += check_llama(path, args.model_dir, windows, texts, limit, threads=threads, backend=args.backend)
    write_json(args.out, checks)
    failed = [one for one in checks if not one["ok"]]
    for one in failed:
        print(
            f"check failed: {one['file']}: {one['check']} is {one['value']:g}, limit {one['limit']:g}", file=sys.stderr
        )
    return 1 if failed and not args.keep_going else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before anything loads OpenMP
    logging.getLogger("gguf").setLevel(logging.WARNING)
    args = _parser().parse_args(argv)
    cli.set_threads(args.threads)
    if args.command == "check":
        return check(args)
    if args.command == "float":
        export_float(args.model_dir, args.out)
    elif args.command == "export":
        allocation = read_allocation(args.allocation)
        export(args.model_dir, allocation, args.calibration, args.out, fold=args.fold, track=args.track)
    else:
        write_row(
            args.gguf, read_json(args.plan), args.model_dir, read_allocation(args.allocation), args.study, args.out
        )
    return 0


def _parser() -> Any:
    top = cli.parser("Write an allocation as GGUF and check it in stock llama.cpp.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> Any:
        made = commands.add_parser(name, help=text, description=text)
        cli.add_common(made)
        made.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
        made.add_argument("--out", type=Path, required=True, help="what to write")
        return made

    one = command("export", "write the GGUF file of an allocation, its plan and its type file")
    one.add_argument("--fold", type=Path, default=None, help="scales by site; none: the weights as they are")
    one.add_argument("--allocation", type=Path, required=True, help="allocation file with bits by linear")
    one.add_argument("--calibration", type=Path, required=True, help="statistics of the unfolded model")
    one.add_argument("--track", default="q8_0", choices=("q8_0", "fp16", "f16"), help="embedding and head")
    command("float", "write the unfolded model as a float32 GGUF file")
    one = command("check", "compare a GGUF file with its plan, with llama.cpp and with transformers")
    one.add_argument("--gguf", type=Path, required=True)
    one.add_argument("--plan", type=Path, required=True)
    one.add_argument("--text", type=Path, required=True, help="a role's documents (JSON lines)")
    one.add_argument("--length", type=int, default=512, help="tokens per window, at most the model's context")
    one.add_argument("--windows", type=int, default=2, help="number of windows")
    limits = f"allowed relative difference in perplexity; None: {FLOAT_LIMIT} for float files, {QUANTIZED_LIMIT} else"
    one.add_argument("--limit", type=float, default=None, help=limits)
    one.add_argument("--keep-going", action="store_true", help="exit 0 although a check failed: the records say so")
    one.add_argument("--backend", default="cyllama", choices=("cyllama", "llama-cpp-python"))
    one = command("row", "write the row folder of a GGUF file")
    one.add_argument("--gguf", type=Path, required=True)
    one.add_argument("--plan", type=Path, required=True)
    one.add_argument("--study", required=True)
    one.add_argument("--allocation", type=Path, required=True)
    return top


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
