"""Is a model worth quantizing? The cost of uniform round-to-nearest, against a limit -> one JSON file.

    python -m ramp.league.acceptance --model-dir R/models/tiny-llama-s --text R/texts/selection.jsonl --bits 3 \\
        --group-size 128 --increase 0.10 --out R/league/tiny-llama-s/accepted.json

A tiny model that was trained for half a minute hardly feels 3-bit rounding, and all allocators are equally good on
it. The record is written either way; the league refuses a model that its record refuses.

The decision is by exp(KL) - 1: the increase of perplexity on text that the float model itself would write. On other
text a model that has memorised its few documents hides what rounding does to it, because the noise also removes some
of its false certainty; for a model that fits its text both agree. The increase on the given text is recorded too.

Fields: ``model, bits, group_size, windows, length, perplexity_float, perplexity_rtn, increase`` (ratio less one, on
the text), ``kl_rtn`` (nats per token), ``increase_own`` (decides), ``limit, accepted, steps`` (of its training, where
this study trained it); null where a number is not finite.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.output_path import OutputFile

log = logging.getLogger("ramp.league.acceptance")


def measure(
    model_dir: Path, text: Path, *, bits: int, group_size: int, windows: int, length: int, device: str, dtype: str
) -> tuple[float, float, float]:
    """Return the mean NLL of the float model and of its uniform RTN row and the KL between them, nats per token."""
    import torch

    from ramp.models.architecture import list_linears
    from ramp.models.device import pick_device, pick_dtype
    from ramp.models.folder import ModelFolder
    from ramp.models.token_windows import token_windows
    from ramp.quantizers.affine import quantize_rtn
    from ramp.quantizers.sizes import group_size_for
    from ramp.scoring.kl_divergence import Scorer

    where = pick_device(device)
    folder = ModelFolder(model_dir)
    model = folder.load_float(pick_dtype(dtype, model_dir), where)
    places = token_windows(folder.tokenizer(), text, length=length, count=windows)
    scorer = Scorer(model, places)
    with torch.no_grad():
        for linear in list_linears(model.config):
            weight: Any = model.get_submodule(linear.name).weight
            own = group_size_for(linear.d_in, group_size, linear.name)
            weight.copy_(quantize_rtn(weight.float(), bits, own).dequantize(weight.dtype))
    rounded = scorer.score(model)
    return scorer.nll_float, rounded.nll, rounded.kl


def judgement(nll_float: float, nll_rtn: float, kl: float, limit: float) -> dict[str, Any]:
    """Return perplexities, KL, both relative increases and the decision; rounding that destroys a model counts.

    A limit of 0 takes any model.
    """
    increase, own = grown(nll_rtn - nll_float), grown(kl)
    return {
        "perplexity_float": math.exp(nll_float),
        "perplexity_rtn": math.exp(nll_rtn) if nll_rtn < 700 else None,
        "increase": increase if math.isfinite(increase) else None,
        "kl_rtn": kl if math.isfinite(kl) else None,
        "increase_own": own if math.isfinite(own) else None,
        "limit": limit,
        "accepted": limit == 0 or bool(own >= limit),
    }


def grown(nats: float) -> float:
    """Return the relative increase of a perplexity by ``nats`` per token; infinite where it overflows."""
    return math.expm1(nats) if nats < 700 else math.inf


def percent(share: float | None) -> str:
    """Return a relative increase as text for the log."""
    return "infinitely much" if share is None else f"{100 * share:.1f} %"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Measure what uniform RTN costs a model, and whether that is enough to compare allocators.")
    parser.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", type=Path, required=True, help="selection text")
    parser.add_argument("--windows", type=int, default=16, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=128, help="tokens per window")
    parser.add_argument("--bits", type=int, default=3, help="width of every linear")
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument(
        "--increase", type=float, default=0.10, help="least relative increase of perplexity, on its own text"
    )
    parser.add_argument("--out", type=OutputFile, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    own, rtn, kl = measure(
        args.model_dir, args.text, bits=args.bits, group_size=args.group_size,
        windows=args.windows, length=args.length, device=args.device, dtype=args.dtype,
    )  # fmt: skip
    from ramp.models.asset_file import read_model_asset

    asset = read_model_asset(args.model_dir)
    record = {
        "model": args.model_dir.name,
        "steps": asset.steps if asset else None,
        **{key: getattr(args, key) for key in ("bits", "group_size", "windows", "length")},
        **judgement(own, rtn, kl, args.increase),
    }
    write_json(args.out, record, sealed=True)
    log.info(
        "%s: uniform %d-bit RTN costs %s perplexity on its own text and %s on selection text (%.2f before), "
        "the least accepted increase is %.0f %% on its own text: %s",
        record["model"], args.bits, percent(record["increase_own"]), percent(record["increase"]),
        record["perplexity_float"], 100 * args.increase, "accepted" if record["accepted"] else "refused",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
