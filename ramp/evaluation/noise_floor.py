"""Evaluate the float model against itself under other conditions: how far rounding alone moves KL and perplexity.

    python -m ramp.evaluation.noise_floor --model-dir R/models/M --reference R/reference/M/heldout.safetensors \\
        --variation fast_arithmetic --arithmetic fast --out R/noise/M/fast_arithmetic.json

A KL of a quantized row that is no larger than these says nothing. ``VARIATIONS`` names what differs from the run that
made the reference; dtype, arithmetic and threads are set by the options of the same name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.cli import log
from ramp.scoring.noise_variations import VARIATIONS

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.bootstrap import interval
    from ramp.evaluation.heldout import Reference, evaluate, float_head
    from ramp.models.device import dtype_name, pick_device, pick_dtype
    from ramp.models.folder import ModelFolder
    from ramp.models.streamed_model import open_model
    from ramp.scoring.kl_divergence import EvaluationError


@dataclass(frozen=True)
class Noise:
    """The float model against its own reference."""

    model: str
    what: str  # name in ``VARIATIONS``
    kl: float  # KL(reference || this run), nats per token, over all windows
    kl_max: float  # the largest of a window
    unit: str
    ppl_ratio: float  # perplexity over the reference's
    n_windows: int
    dtype: str


def measure(model_dir: Path, reference: Reference, name: str, dtype: str, device: str) -> Noise:
    """Return the noise of one variation."""
    variation, folder, place = VARIATIONS[name], ModelFolder(model_dir), pick_device(device)
    if reference.about["model"] != folder.name:
        raise EvaluationError(f"the reference is of {reference.about['model']}, not of {folder.name}: name its own")
    own_dtype = pick_dtype(dtype, model_dir)
    model = open_model(folder.config, own_dtype, place, folder.reader.get)
    head = float_head(model_dir, reference.hidden.dtype, place)
    length = reference.windows.shape[1]
    if variation.reverse:
        reference = replace(
            reference, hidden=reference.hidden.flip(0), nll=reference.nll.flip(0), windows=reference.windows.flip(0)
        )
    batch = variation.windows_per_batch
    windows = evaluate(model, reference, head, batch_tokens=None if batch is None else batch * length)
    own = [
        {"window": index, "tokens": len(nll), "nll": float(nll.double().sum()), "kl": 0.0}
        for index, nll in enumerate(reference.nll)
    ]
    return Noise(
        model=folder.name,
        what=name,
        kl=interval(windows, "kl").value,
        kl_max=max(each["kl"] / each["tokens"] for each in windows),
        unit="nats per token",
        ppl_ratio=interval(windows, "ppl").value / interval(own, "ppl").value,
        n_windows=len(windows),
        dtype=dtype_name(own_dtype),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Evaluate the float model against itself under other conditions.", "--model-dir --out")
    parser.add_argument("--reference", type=Path, required=True, help="reference of this model")
    parser.add_argument("--variation", choices=list(VARIATIONS), required=True, help="what differs")
    args: argparse.Namespace = parser.parse_args(argv)
    found = measure(args.model_dir, Reference.load(args.reference), args.variation, args.dtype, args.device)
    write_json(args.out, asdict(found), sealed=True)
    log.info("%s, %s: KL %.3g nats per token", found.model, VARIATIONS[found.what].title, found.kl)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
