"""Is a model worth quantizing? What uniform round-to-nearest costs it, against a limit -> one JSON file.

    python -m ramp.acceptance --model-dir R/models/tiny-llama-s --text R/texts/selection.jsonl --bits 3 \\
        --group-size 128 --increase 0.10 --out R/league/tiny-llama-s/accepted.json

A tiny model that was trained for half a minute hardly feels 3-bit rounding, and every allocator is as good as any other
on it. The record is written either way; whoever needs an accepted model refuses a model whose record says no.

Fields: ``model, bits, group_size, windows, length, perplexity_float, perplexity_rtn, increase`` (ratio less one),
``kl_rtn`` (nats per token; told, not judged), ``limit, accepted, steps`` (of its training, where it was trained here).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp import cli
from ramp.files import read_json, write_json

log = logging.getLogger("ramp.acceptance")


def measure(
    model_dir: Path, text: Path, *, bits: int, group_size: int, windows: int, length: int, device: str, dtype: str
) -> tuple[float, float, float]:
    """(mean NLL of the float model, of its uniform RTN row, KL between them), nats per token, on the same windows."""
    import torch

    from ramp.divergence import Scorer
    from ramp.models import list_linears, load_float, load_tokenizer, pick_device, pick_dtype
    from ramp.quantizers.affine import quantize_rtn
    from ramp.sizes import group_size_for
    from ramp.text import token_windows

    where = pick_device(device)
    model = load_float(model_dir, pick_dtype(dtype, where), where)
    places = token_windows(load_tokenizer(model_dir), text, length=length, count=windows)
    scorer = Scorer(model, places)
    with torch.no_grad():
        for linear in list_linears(model.config):
            weight: Any = model.get_submodule(linear.name).weight
            own = group_size_for(linear.d_in, group_size, linear.name)
            weight.copy_(quantize_rtn(weight.float(), bits, own).dequantize(weight.dtype))
    rounded = scorer.score(model)
    return scorer.nll_float, rounded.nll, rounded.kl


def judgement(nll_float: float, nll_rtn: float, limit: float) -> dict[str, Any]:
    """Perplexities, the relative increase and the verdict; a model that rounding destroys is worth quantizing.

    A limit of 0 takes any model: one that hardly feels rounding may gain a little from it by chance.
    """
    increase = math.expm1(nll_rtn - nll_float) if nll_rtn - nll_float < 700 else math.inf
    return {
        "perplexity_float": math.exp(nll_float),
        "perplexity_rtn": math.exp(nll_rtn) if nll_rtn < 700 else None,
        "increase": increase if math.isfinite(increase) else None,
        "limit": limit,
        "accepted": limit == 0 or bool(increase >= limit),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = cli.parser("Measure what uniform RTN costs a model, and whether that is enough to compare allocators.")
    parser.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", type=Path, required=True, help="selection text")
    parser.add_argument("--windows", type=int, default=16, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=128, help="tokens per window")
    parser.add_argument("--bits", type=int, default=3, help="width of every linear")
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument("--increase", type=float, default=0.10, help="least relative increase of perplexity")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    own, rtn, kl = measure(
        args.model_dir, args.text, bits=args.bits, group_size=args.group_size,
        windows=args.windows, length=args.length, device=args.device, dtype=args.dtype,
    )  # fmt: skip
    asset = args.model_dir / "asset.json"
    record = {
        "model": args.model_dir.name,
        "steps": read_json(asset).get("steps") if asset.is_file() else None,
        **{key: getattr(args, key) for key in ("bits", "group_size", "windows", "length")},
        "kl_rtn": kl if math.isfinite(kl) else None,
        **judgement(own, rtn, args.increase),
    }
    write_json(args.out, record)
    log.info(
        "%s: uniform %d-bit RTN costs %s perplexity (%.2f to %s), %.0f %% are asked for: %s",
        record["model"], args.bits, "more than can be said" if record["increase"] is None
        else f"{100 * record['increase']:.1f} %", record["perplexity_float"],
        "infinite" if record["perplexity_rtn"] is None else f"{record['perplexity_rtn']:.2f}",
        100 * args.increase, "accepted" if record["accepted"] else "refused",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
