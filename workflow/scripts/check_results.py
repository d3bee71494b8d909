"""Check the files of a finished study: sizes equal to stat, parts that sum, checks passed.

Writes ``check.json``: a list of ``{file, check, value, limit, ok}``; exits 1 and names every failure.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, write_json
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile
from ramp.evaluation.metrics_file import Number, read_metrics
from ramp.rows.meta_file import gguf_of, read_meta

SIZE_PARTS = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")


@dataclass(frozen=True)
class Checked:
    """One check of an exported file, as its stage left it."""

    file: str
    check: str
    value: Number
    limit: Number
    ok: bool


def check(results: Path) -> list[dict[str, Any]]:
    """Return all checks on the rows, metrics and exports below ``results``."""
    found = []
    for meta in sorted(results.glob("quantized/*/*/meta.json")):
        found += check_sizes(results, meta)
    for metrics in sorted(results.glob("metrics/*/*.json")):
        found += check_metrics(results, metrics)
    for kind, pattern in (("halo", "halo/*/*.check.json"), ("gguf", "gguf/*/checks.json")):
        for file in sorted(results.glob(pattern)):
            checks = read_json(file, list[Checked])
            found += [one(each.file, f"{kind}: {each.check}", each.value, each.limit, each.ok) for each in checks]
    return found


def check_sizes(results: Path, file: Path) -> list[dict[str, Any]]:
    """Check the sizes of one row: ``bytes_file`` is the size of the file, and its parts sum to it."""
    meta = read_meta(file.parent)
    if meta.get("failed"):  # it could not be made and has no sizes
        return []
    name = str(file.parent.relative_to(results))
    parts = [size for size in (meta.get(part) for part in SIZE_PARTS) if size is not None]  # a released file has fewer
    if not all(isinstance(size, int) for size in (*parts, meta.get("bytes_file"))):
        raise RampError(f"{file} does not say its sizes: delete the row and quantize it again")
    found = []
    if len(parts) == len(SIZE_PARTS):
        found.append(one(name, "parts sum to bytes_file", sum(parts), meta["bytes_file"]))
    weights = gguf_of(file.parent, meta["gguf"]) if meta.get("gguf") else file.parent / "model.safetensors"
    if weights.is_file():
        stored = meta.get("bytes_stored", meta["bytes_file"])  # a package's own grid takes less when packed
        found.append(one(name, "bytes_file is stat's", stored, weights.stat().st_size))
    return found


def check_metrics(results: Path, file: Path) -> list[dict[str, Any]]:
    """Check that perplexity follows from the windows, KL is not negative, and intervals hold their estimates."""
    found = []
    name = str(file.relative_to(results))
    for text, scores in read_metrics(file).texts.items():
        tokens = sum(window.tokens for window in scores.windows)
        sums = [window.nll for window in scores.windows if window.nll is not None]
        if scores.ppl is not None and len(sums) == len(scores.windows) > 0:  # else not finite, which its note says
            perplexity = math.exp(sum(sums) / tokens)
            close = math.isclose(perplexity, scores.ppl, rel_tol=1e-6)
            found.append(one(name, f"{text}: perplexity of the windows", perplexity, scores.ppl, ok=close))
        if None not in (scores.ppl, scores.ppl_low, scores.ppl_high):
            inside = scores.ppl_low <= scores.ppl <= scores.ppl_high
            found.append(one(name, f"{text}: interval holds its estimate", scores.ppl, scores.ppl_high, ok=inside))
        if scores.kl is not None:
            found.append(one(name, f"{text}: KL is not negative", scores.kl, 0, ok=scores.kl >= -1e-6))
    return found


def one(file: str, what: str, value: float, limit: float, ok: bool | None = None) -> dict[str, Any]:
    """Return one check; without ``ok`` the two must be equal."""
    return {"file": file, "check": what, "value": value, "limit": limit, "ok": value == limit if ok is None else ok}


def main(argv: Sequence[str] | None = None) -> int:
    """Check, write, name the failures."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results folder of a study")
    parser.add_argument("--out", type=OutputFile, required=True, help="check.json")
    arguments = parser.parse_args(argv)
    found = check(arguments.results)
    failed = [one for one in found if not one["ok"]]
    for failure in failed:
        print(f"{failure['file']}: {failure['check']}: {failure['value']} against {failure['limit']}", file=sys.stderr)
    if failed or not found:
        print(f"error: {len(failed)} of {len(found)} checks failed in {arguments.results}", file=sys.stderr)
        return 1
    write_json(arguments.out, found)
    print(f"{len(found)} checks passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
