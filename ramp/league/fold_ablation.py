"""The ablation of Scale Folding: one uniform row on the weights of one fold, quantized and scored -> one JSON file.

    python -m ramp.league.fold_ablation --model-dir R/models/M --text R/texts/calibration.jsonl --tokens 8192
    --length 512 \\
        --fold R/folds/M/sq50.safetensors --name sq50 --method-file baselines/gptq.py --bits 3 \\
        --reference R/fold_ablation/M/reference.safetensors --out R/fold_ablation/M/sq50/gptq-b3.json

The method's own fold plays no part: each quantizer meets every fold, so that rows of one quantizer differ in the fold
and in nothing else. ``--method-file float`` quantizes nothing and scores the folded float model: what the fold alone
changes, which should be rounding. All is scored in the dtype of the reference.

The file: ``model, method, title, bits, group_size, fold`` (as the configuration calls it), ``file`` (the fold file's
stem: AWQ searches one per width), ``kind, alpha, sites, error_ratio`` (output error of the search's sites with the fold
over without, geometric mean, calibration text; null where nothing was searched), ``bytes_linear, bpw_linear``, ``text``
(one of ``texts`` of a metrics file), ``dtype, wall_s, commit, versions, hardware``.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.atomic_files import require_file, write_json
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile
from ramp.core.provenance import commit, hardware, versions
from ramp.core.stale_temporaries import scratch_folder
from ramp.methods.names import FLOAT

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.calibration.folding import Fold, folded_float_model, load_fold
    from ramp.core.tensors import open_tensors
    from ramp.evaluation.heldout import Reference, evaluate, float_head
    from ramp.evaluation.metrics import text_metrics
    from ramp.methods.kinds import Quantizer
    from ramp.methods.loader import load_method
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.rows.build import build_row
    from ramp.rows.checkpoint import load_dequantized

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Made = tuple[PreTrainedModel, dict[str, Any]]

log = logging.getLogger("ramp.league.fold_ablation")


@dataclass(frozen=True)
class AboutFold:
    """Fields that are read of a fold's metadata."""

    kind: str = ""
    alpha: float | None = None
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)  # by site: before and after


def about_fold(path: Path, fold: Fold) -> dict[str, Any]:
    """Return a fold file's stem, kind, SmoothQuant alpha, folded kinds of sites and mean ratio of errors."""
    with open_tensors(path, "fold") as tensors:
        about = tensors.about_as(AboutFold)
    ratios = [math.log(after / before) for before, after in about.errors.values() if before > 0 < after]
    return {
        "file": path.stem,
        "kind": about.kind,
        "alpha": about.alpha,
        "sites": " ".join(sorted({site.rpartition(".")[2] for site in fold})),
        "error_ratio": math.exp(sum(ratios) / len(ratios)) if ratios else None,
    }


def quantized(args: argparse.Namespace, dtype: torch.dtype, device: torch.device) -> Made:
    """Build the uniform row at ``args.bits`` as a study does, and read it back; the packed file is temporary."""
    if not isinstance(method := load_method(args.method_file), Quantizer):
        raise RampError(f"'{method.name}' gives no uniform rows of ours: name a quantizer, such as rtn or gptq")
    with scratch_folder(args.out) as scratch:
        row = scratch / "row"
        meta = build_row(
            args.model_dir, row, method_file=args.method_file, fold_file=args.fold, text=args.text, tokens=args.tokens,
            length=args.length, draw=args.draw, group_size=args.group_size, track=args.track, device=device,
            bits=args.bits, params=args.params, any_fold=True,
        )  # fmt: skip
        model = load_dequantized(row, args.model_dir, dtype, device)
    return model, {"bits": args.bits, **{key: meta[key] for key in ("group_size", "bytes_linear", "bpw_linear")}}


def scored(model: PreTrainedModel, reference: Reference, model_dir: Path) -> dict[str, Any]:
    """Return perplexity and KL with their windows, as an entry of a metrics file."""
    parameter: torch.Tensor = next(model.parameters())
    head = float_head(model_dir, parameter.dtype, parameter.device)
    return text_metrics(evaluate(model, reference, head), reference.about["length"])


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make and score one row of the ablation; return the fields in the module's docstring."""
    began = time.monotonic()
    fold = load_fold(args.fold, ModelFolder(args.model_dir).config)
    reference = Reference.load(require_file(args.reference, "float reference"))
    if reference.about["model"] != args.model_dir.name:
        raise RampError(f"{args.reference} is of {reference.about['model']}: pass the reference of this very model")
    device = pick_device(args.device)
    dtype = reference.hidden.dtype
    plain = str(args.method_file) == FLOAT  # the folded float model
    if plain:
        model = folded_float_model(args.model_dir, fold, dtype, device)
        about: dict[str, Any] = {"bits": 16, "group_size": 0, "bytes_linear": None, "bpw_linear": None}
    else:
        model, about = quantized(args, dtype, device)
    return {
        "model": args.model_dir.name,
        "method": args.method_name or (FLOAT if plain else Path(args.method_file).stem),
        "title": args.title,
        **about,
        "fold": args.name or args.fold.stem,
        **about_fold(args.fold, fold),
        "text": scored(model, reference, args.model_dir),
        "dtype": reference.about["dtype"],
        "wall_s": round(time.monotonic() - began, 3),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(str(device)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make one row of the ablation; see the module's docstring."""
    about = "One uniform row on one fold, scored on held-out text: the ablation of Scale Folding."
    parser = cli.parser(about, "--params --group-size --track")
    add_text_arguments(parser)
    parser.add_argument("--fold", type=Path, required=True, help="fold file of ramp.calibration.fold_search")
    parser.add_argument("--name", default="", help="of the fold in the configuration; the file's stem if empty")
    parser.add_argument("--method-file", type=Path, required=True, help="file of a uniform method; or: float")
    parser.add_argument("--method-name", default="", help="of the method, where it is a variant; its file's if empty")
    parser.add_argument("--title", default="", help="what tables call the method; the paper's own name if empty")
    parser.add_argument("--bits", type=int, default=16, help="width of every linear; not read for float")
    parser.add_argument("--reference", type=Path, required=True, help="float reference of ramp.evaluation")
    parser.add_argument("--out", type=OutputFile, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    args.model_dir = Path(args.model_dir)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = run(args)
    write_json(args.out, found, sealed=True)
    log.info(
        "%s, fold %s, %s, %d bits: perplexity %s, KL %s",
        found["model"], found["fold"], found["method"], found["bits"], found["text"]["ppl"], found["text"]["kl"],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
