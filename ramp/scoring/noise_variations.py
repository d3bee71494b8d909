"""Conditions under which the float model is evaluated against itself."""

from __future__ import annotations

from dataclasses import dataclass

from ramp.core.arithmetic import FAST


@dataclass(frozen=True)
class Variation:
    """Differences from the reference's own run; None or False where there is none."""

    title: str
    dtype: str | None = None
    arithmetic: str | None = None
    threads: int | None = None
    reverse: bool = False  # windows from the last to the first
    windows_per_batch: int | None = None


VARIATIONS = {
    "again": Variation("nothing: the same evaluation once more"),
    "reverse_order": Variation("windows from the last to the first", reverse=True),
    "other_batch": Variation("two windows in a batch", windows_per_batch=2),
    "two_threads": Variation("two threads", threads=2),
    "fast_arithmetic": Variation("the library's own kernels, one thread", arithmetic=FAST, threads=1),
    "fast_two_threads": Variation("the library's own kernels, two threads", arithmetic=FAST, threads=2),
    "bfloat16": Variation("bfloat16", dtype="bfloat16"),
}
"""Name -> variation, in the order of the table."""
