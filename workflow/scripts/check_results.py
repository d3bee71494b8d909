"""Check the files of a finished study: sizes equal to stat, parts that sum, checks passed.

Writes ``check.json``: a list of ``{file, check, value, limit, ok}``; exits 1 and names every failure.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from ramp.core.files import read_json, write_json

SIZE_PARTS = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")


def check(results: Path) -> list[dict[str, Any]]:
    """Return all checks on the rows, metrics and exports below ``results``."""
    found = []
    for meta in sorted(results.glob("quantized/*/*/meta.json")):
        found += check_sizes(results, meta)
    for metrics in sorted(results.glob("metrics/*/*.json")):
        found += check_metrics(results, metrics)
    for file in sorted(results.glob("halo/*/*.check.json")):
        found += [{**one, "check": f"halo: {one['check']}"} for one in read_json(file, list[dict[str, Any]])]
    for file in sorted(results.glob("gguf/*/checks.json")):
        found += [{**one, "check": f"gguf: {one['check']}"} for one in read_json(file, list[dict[str, Any]])]
    return found


def check_sizes(results: Path, file: Path) -> list[dict[str, Any]]:
    """Check the sizes of one row: ``bytes_file`` is the size of the file, and its parts sum to it."""
    meta = read_json(file, dict[str, Any])
    if meta.get("failed"):  # it could not be made and has no sizes
        return []
    name = str(file.parent.relative_to(results))
    sizes = meta.get("sizes", meta)
    found = [one(name, "parts sum to bytes_file", sum(sizes[part] for part in SIZE_PARTS), sizes["bytes_file"])]
    weights = file.parent / "model.safetensors"
    if "gguf" in meta:
        weights = file.parent / meta["gguf"]
    if weights.is_file():
        stored = sizes.get("bytes_stored", sizes["bytes_file"])  # a package's own grid takes less when packed
        found.append(one(name, "bytes_file is stat's", stored, weights.stat().st_size))
    return found


def check_metrics(results: Path, file: Path) -> list[dict[str, Any]]:
    """Check that perplexity follows from the windows, KL is not negative, and intervals hold their estimates."""
    found = []
    name = str(file.relative_to(results))
    for text, scores in read_json(file, dict[str, Any])["texts"].items():
        tokens = sum(window["tokens"] for window in scores["windows"])
        perplexity = math.exp(sum(window["nll"] for window in scores["windows"]) / tokens)
        close = math.isclose(perplexity, scores["ppl"], rel_tol=1e-6)
        found.append(one(name, f"{text}: perplexity of the windows", perplexity, scores["ppl"], ok=close))
        inside = scores["ppl_low"] <= scores["ppl"] <= scores["ppl_high"]
        found.append(one(name, f"{text}: interval holds its estimate", scores["ppl"], scores["ppl_high"], ok=inside))
        found.append(one(name, f"{text}: KL is not negative", scores["kl"], 0, ok=scores["kl"] >= -1e-6))
    return found


def one(file: str, what: str, value: float, limit: float, ok: bool | None = None) -> dict[str, Any]:
    """Return one check; without ``ok`` the two must be equal."""
    return {"file": file, "check": what, "value": value, "limit": limit, "ok": value == limit if ok is None else ok}


def main() -> int:
    """Check, write, name the failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results folder of a study")
    parser.add_argument("--out", type=Path, required=True, help="check.json")
    arguments = parser.parse_args()
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
    raise SystemExit(main())
