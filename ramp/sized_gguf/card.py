"""Texts about a finished file: the plan in lines, the comparison, and the model card for a hub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ramp.evaluation.bootstrap import Estimate
from ramp.export.card import MEASURES, Score, hub_metadata
from ramp.sized_gguf.units import TABLES, Unit

GROUPS = ("embedding", "head", "q", "k", "v", "o", "gate", "up", "down")
"""Order of a plan's lines."""


@dataclass(frozen=True)
class Measured:
    """One file on held-out text."""

    name: str
    bytes: int
    kl: Estimate  # to the float model, nats per token
    perplexity_ratio: Estimate  # over the float model's
    top1: float  # share of positions with the float model's first choice


def plan_lines(units: Sequence[Unit], types: Mapping[str, str]) -> list[str]:
    """Return one line per role: its types by depth, as ranges of blocks."""
    lines = []
    for group in GROUPS:
        members = [unit for unit in units if unit.group == group]
        if not members:
            continue
        if group in TABLES:
            lines.append(f"  {group:<9}  {types[members[0].name]}")
            continue
        runs = []
        for kind, run in groupby(members, key=lambda unit: types[unit.name]):
            layers = [unit.tensor.layer for unit in run]
            runs.append(f"{kind} {layers[0]}" if len(layers) == 1 else f"{kind} {layers[0]}-{layers[-1]}")
        lines.append(f"  {group:<9}  {', '.join(runs)}")
    return lines


def interval(found: Estimate, digits: int = 4) -> str:
    """Return a value with its interval as text: ``digits`` decimals, or three significant digits of a small value."""
    if 0 < abs(found.value) < 10.0 ** (2 - digits):
        digits = 2 - math.floor(math.log10(abs(found.value)))
    if found.low is None or found.high is None:
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def comparison(rows: Sequence[Measured]) -> list[str]:
    """Return the table of files as lines."""
    cells = [("", "bytes", "KL to float, nats per token", "perplexity / float", "same token")]
    cells += [
        (x.name, f"{x.bytes:,}", interval(x.kl), interval(x.perplexity_ratio), f"{100 * x.top1:.1f} %") for x in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  "
        + "  ".join(cell.rjust(widths[i]) if i == 1 else cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in cells
    ]


def verdict(ratio: Estimate, ours: Measured, rival: Measured) -> str:
    """Return one sentence on the KL and the bytes of a file beside those of another, by the whole interval."""
    side = ratio.side(1)
    found = "no difference beyond the windows of the text" if not side else "better" if side < 0 else "worse"
    share = 100 * (ours.bytes / rival.bytes - 1)
    return f"KL / KL of {rival.name}: {interval(ratio, 3)} at {share:+.1f} % of its bytes: {found}"


def base_model(source: str) -> tuple[str, str]:
    """Return MODEL as a reader elsewhere knows it, and its commit: a repository of the hub, or the name of a folder.

    A folder in the hub's cache is its repository.
    """
    path = Path(source)
    if path.is_dir():
        path = path.resolve()
        cached = re.fullmatch(r"models--([^-].*?)--(.+)", path.parent.parent.name)
        if cached and path.parent.name == "snapshots":
            return f"{cached[1]}/{cached[2]}", path.name
        return path.name, ""
    name, _, commit = source.partition("@")
    return name, commit


def model_card(summary: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Return a README for a hub: metadata with the KL as an evaluation result, and the terminal's text."""
    ours: Measured = summary["measured"][0]
    name = summary["gguf"].removesuffix(".gguf")
    windows = f"{summary['windows']} windows of {summary['length']} tokens"
    score = Score(summary["held_out"], *MEASURES["kl"], round(ours.kl.value, 6), windows)
    source, commit = base_model(summary["source"])
    types, matrix, out = (shlex.quote(f"{name}.{ending}") for ending in ("types.txt", "imatrix.gguf", "gguf"))
    again = (
        f"`{name}.types.txt` and `{name}.imatrix.gguf` give llama-quantize the same types and matrix; the scales "
        f"of this file are others: {summary['changed']}."
        if summary["changed"]
        else f"With `{name}.types.txt` and `{name}.imatrix.gguf` llama-quantize makes the same tensors from the float "
        f"file: `llama-quantize --imatrix {matrix} --tensor-type-file {types} float.gguf {out} Q4_K_M`."
    )
    text = "\n".join(lines)
    return f"""{hub_metadata(name, [score], source if "/" in source else "")}

# {summary["gguf"]}

{source}{f" at {commit}" if commit else ""} as a GGUF file of mixed ggml types, for stock llama.cpp.

```text
{text}
```

`{name}.plan.json` names every tensor's type and bytes. {again}

| input | sha256 |
| --- | --- |
{"".join(f"| {key} | `{value}` |{chr(10)}" for key, value in summary["sha256"].items())}"""
