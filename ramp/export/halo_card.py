"""The model card of an exported allocation: a README for a hub, with the row's scores as evaluation results.

    python -m ramp.export.halo_card --plan F.plan.json --metrics R/metrics/M/ROW-ggml.json --model-dir R/models/M \\
        --out F.card.md

The scores are those of the file itself: KL and perplexity of its row (grid ggml) on held-out text. Of a text that is
too short to carry a verdict the card says so, and a hub gets no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_text
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.enough_text import LEAST_TOKENS, LEAST_WINDOWS, enough_text
    from ramp.evaluation.metrics_file import MetricsFile, TextScores, read_metrics
    from ramp.export.card import MEASURES, Score, hub_metadata
    from ramp.export.plan import GgufPlan, read_plan
    from ramp.models.asset_file import ModelAsset, read_model_asset

DIGITS = 6
"""Significant digits of a score."""


NO_EVIDENCE = """
**Not evidence:** these numbers are of too little text ({windows} windows and {tokens:,} tokens are the least), so this
card gives a hub no score.
"""


def scores_of(metrics: MetricsFile) -> list[Score]:
    """Return KL and perplexity of a metrics file on every text; what is not finite is left out."""
    found = []
    for text, each in metrics.texts.items():
        config = f"{len(each.windows)} windows of {each.length} tokens"
        for kind, (measure, name) in MEASURES.items():
            if (value := getattr(each, kind)) is not None:
                found.append(Score(text, measure, name, float(f"{value:.{DIGITS}g}"), config))
    return found


def halo_card(plan: GgufPlan, metrics: MetricsFile, asset: ModelAsset) -> str:
    """Return the card of an exported allocation.

    Args:
        plan: the file's plan.
        metrics: metrics file of the row that the file is (grid ggml).
        asset: what the folder of the float model says of itself.

    Raises:
        RampError: the metrics are of another row.
    """
    key, sizes = metrics.key, metrics.sizes
    if key.grid != "ggml" or key.model != plan.model or not {"bytes_file", "bpw_file"} <= sizes.keys():
        raise RampError(f"the metrics are of {key.model} on the grid {key.grid}: give those of {plan.gguf}'s row")
    name = plan.gguf.removesuffix(".gguf")
    scores = scores_of(metrics)
    published = [each for each in scores if _is_enough(metrics.texts[each.dataset])]
    base = asset.source if asset.kind == "hub" else ""
    types = Counter(tensor.type for tensor in plan.tensors if tensor.kind == "linear")
    lines = "\n".join(f"| {each.dataset} | {each.name} | {each.value:g} | {_ends(metrics, each)} |" for each in scores)
    licence = asset.licence or "not recorded"
    whole = f"{sizes['bytes_file']:,} bytes, {sizes['bpw_file']:.3f} bits per weight"
    return f"""{hub_metadata(name, published, base)}

# {plan.gguf}

{base or plan.model} as a GGUF file of mixed ggml types, for stock llama.cpp: the allocation of `{key.method}` at a
budget of {key.budget_bits:g} bits. The whole file: {whole}. Licence of the float model: {licence}.

| text | measure | value | 95 % interval, {_config(scores)} |
| --- | --- | --- | --- |
{lines}
{"" if len(published) == len(scores) else NO_EVIDENCE.format(windows=LEAST_WINDOWS, tokens=LEAST_TOKENS)}
Linears by type: {", ".join(f"{count} {kind}" for kind, count in sorted(types.items()))}. `{name}.plan.json` names every
tensor's type and bytes. Measured at commit {metrics.commit or "not recorded"}.
"""


def _is_enough(text: TextScores) -> bool:
    return enough_text(len(text.windows), text.length)


def _config(scores: Sequence[Score]) -> str:
    """Return the windows behind the intervals."""
    return "; ".join(dict.fromkeys(each.config for each in scores)) or "none"


def _ends(metrics: MetricsFile, score: Score) -> str:
    """Return the interval of a score as text."""
    kind = next(name for name, (measure, _) in MEASURES.items() if measure == score.type)
    found = metrics.texts[score.dataset]
    low, high = getattr(found, f"{kind}_low"), getattr(found, f"{kind}_high")
    return "none" if low is None or high is None else f"{low:.{DIGITS}g} to {high:.{DIGITS}g}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Write the model card of an exported allocation, with its scores.")
    parser.add_argument("--plan", type=Path, required=True, help="plan of the GGUF file")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics of the exported file's row")
    parser.add_argument("--model-dir", type=Path, required=True, help="folder of the float model")
    parser.add_argument("--out", type=OutputFile, required=True, help="file to write, ending in .card.md")
    args = parser.parse_args(argv)
    asset = read_model_asset(args.model_dir) or ModelAsset()
    write_text(args.out, halo_card(read_plan(args.plan), read_metrics(args.metrics), asset))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
