"""Evidence that a study lacks to carry verdicts: windows of held-out text, seeds of its searches.

A run on two windows with one seed shows that everything works. It says nothing about methods, and its pages say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from paper.study import Entry, Study
from paper.words import listed, plural
from ramp.evaluation.enough_text import LEAST_TOKENS, LEAST_WINDOWS, enough_text

LEAST_SEEDS = 2
"""Seeds of every search that draws random numbers; with one, nothing is known of another."""


def shortages(study: Study) -> list[str]:
    """Return what a study lacks to be evidence, each in words; nothing where it lacks nothing."""
    entries = [entry for entry in study.find(study.source) if entry.is_quantized]
    return [*_little_text(study, entries), *_single_seeds(entries)]


def lacking(study: Study, rows: Iterable[str]) -> list[str]:
    """Return what comparisons of some rows (``Entry.row``, as claims.json lists them) lack to be evidence.

    Rows of the league and of ablations have windows and seeds of their own: of these the study's text alone is asked.
    A check of an exported file needs no second seed.
    """
    named = set(rows)
    entries = [entry for entry in study.entries if entry.row in named and entry.grid == "affine"]
    return [*_little_text(study, [*study.find(study.source), *entries]), *_single_seeds(entries)]


def _little_text(study: Study, entries: Iterable[Entry]) -> list[str]:
    text = study.primary_text
    counts = [
        (entry.mean(f"n_windows_{text}"), entry.mean(f"length_{text}")) for entry in entries if entry.is_quantized
    ]
    sizes = [(int(windows), int(length)) for windows, length in counts if windows and length]
    if not sizes:
        return []
    windows, length = min(sizes, key=lambda size: size[0] * size[1])
    if enough_text(windows, length):
        return []
    return [f"{plural(windows, 'window')} of {length:,} tokens (least: {LEAST_WINDOWS}, of {LEAST_TOKENS:,} in all)"]


def _single_seeds(entries: Iterable[Entry]) -> list[str]:
    single = [entry.title for entry in entries if entry.searched and len(entry.records) < LEAST_SEEDS]
    if not single:
        return []
    shown = listed(single[:2]) + (" and others" if len(single) > 2 else "")
    return [f"one seed of {shown} (least: {LEAST_SEEDS})"]
