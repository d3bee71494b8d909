"""Evidence that a study lacks to carry verdicts: windows of held-out text, seeds of its searches.

A run on two windows with one seed shows that everything works. It says nothing about methods, and its pages say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paper.naming import text_title
from paper.study import SEEDS, Entry, Study
from paper.words import listed, plural
from ramp.evaluation.enough_text import LEAST_TOKENS, LEAST_WINDOWS, enough_text

LEAST_SEEDS = 2
"""Seeds of every search that draws random numbers; with one, nothing is known of another."""


def shortages(study: Study) -> list[str]:
    """Return what a study lacks to be evidence, each in words; nothing where it lacks nothing."""
    entries = [entry for entry in study.find(study.source) if entry.is_quantized]
    single = [entry for entry in entries if entry.searched and len(entry.records) < LEAST_SEEDS]
    return [*_little_text(study, entries), *_single_seeds(single)]


def lacking(study: Study, rows: Iterable[str]) -> list[str]:
    """Return what comparisons of some rows (``Entry.row``, as claims.json lists them) lack to be evidence.

    Rows of the league and of ablations have windows and seeds of their own: of these the study's text alone is asked.
    A check of an exported file needs no second seed.
    """
    seeds: dict[str, set[str]] = {}
    for row in rows:
        line, _, named = row.rpartition(SEEDS)
        seeds.setdefault(line, set()).update(named.split(","))
    entries = [entry for entry in study.entries if entry.line in seeds and entry.grid == "affine"]
    single = [entry for entry in entries if entry.searched and len(seeds[entry.line]) < LEAST_SEEDS]
    return [*_little_text(study, [*study.find(study.source), *entries]), *_single_seeds(single)]


def little_text(windows: int, length: int) -> list[str]:
    """Return what so many windows of ``length`` tokens lack, in words; nothing where they are enough."""
    if enough_text(windows, length):
        return []
    return [f"{plural(windows, 'window')} of {length:,} tokens (least: {LEAST_WINDOWS}, of {LEAST_TOKENS:,} in all)"]


def _little_text(study: Study, entries: Iterable[Entry]) -> list[str]:
    text = study.primary_text
    counts = [
        (entry.mean(f"n_windows_{text}"), entry.mean(f"length_{text}")) for entry in entries if entry.is_quantized
    ]
    sizes = [(int(windows), int(length)) for windows, length in counts if windows and length]
    if not sizes:
        return [f"no row scored on {text_title(text)}"] if counts else []
    return little_text(*min(sizes, key=lambda size: size[0] * size[1]))


def _single_seeds(single: Sequence[Entry]) -> list[str]:
    if not single:
        return []
    shown = listed([entry.title for entry in single[:2]]) + (" and others" if len(single) > 2 else "")
    return [f"one seed of {shown}, where {LEAST_SEEDS} are the least"]
