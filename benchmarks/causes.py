"""Named causes of parity rows at equal settings that lie more than 2 % above the package.

Causes are found by experiments (docs/decisions.md, "Parity on SmolLM2"). ``benchmarks.records`` appends one to the note
of a row above the limit; a row within it gets none, so that a cause goes when the difference does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMIT = 1.02
"""Error or KL of ours over the package's, above which a row needs a cause."""

MARK = "cause: "
"""Prefix of a cause in a note."""

FIRST_TOKENS = (
    "the first token of each window, whose massive activation a few blocks make and take away; the scales of block "
    "28's MLP, searched by its whole output as the package does, bring the error within 2 % and hardly move the KL"
)
ONE_LINEAR = (
    "chance of one rounding: layers.28.mlp.down_proj, a third of the sum, loses or gains the difference when the "
    "damping is moved by 1 %"
)
ONE_KL = "chance of one rounding, for the most part: moving the damping by 1 % moves our KL as far, at equal error"

CAUSES = {
    ("smollm2-135m", "awq", "autoawq", 4, 64, False): FIRST_TOKENS,
    ("smollm2-135m", "awq", "gptqmodel", 4, 64, False): FIRST_TOKENS,
    ("smollm2-135m", "gptq", "gptqmodel", 3, 64, True): ONE_KL,
    ("smollm2-135m", "gptq", "gptqmodel", 4, 64, True): ONE_LINEAR,
}
"""(model, method, package, bits, group size, symmetric) -> cause."""


def wants_cause(row: Mapping[str, Any]) -> bool:
    """Return whether a row at equal settings has an error or a KL more than 2 % above the package's."""
    found = [row.get(key) for key in ("ratio", "error_ratio")]
    return row["settings"] == "equal" and any(ratio is not None and ratio > LIMIT for ratio in found)


def explained(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its cause in the note, where it needs one and one is known."""
    package, sizes = row["reference"].partition(" ")[0], (int(row["bits"]), int(row["group_size"]))
    key = (row["model"], row["method"], package, *sizes, bool(row["symmetric"]))
    if not wants_cause(row) or key not in CAUSES:
        return row
    return {**row, "note": "; ".join(part for part in (row.get("note"), MARK + CAUSES[key]) if part)}
