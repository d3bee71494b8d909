"""Numbers of the paper's text that compare two rows of the source model, paired on the same windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paper.budgets import low_budget, paper_budget
from paper.comparisons import Pair, pair, saving
from paper.intervals import IDENTICAL
from paper.naming import RAMP_METHODS, REFERENCE_BITS, UNIFORM_METHODS, bits_title
from paper.study import Study
from paper.tables.main import uniform_reference
from paper.words import shown

Items = Iterator[tuple[str, str]]

PAPER_SAVING = 0.06
"""Bytes that the paper's file has less than its uniform 4-bit one, about."""

KEPT = "the search kept its start"
"""Said of a row that is its start's, window by window."""


def pair_values(study: Study) -> Items:
    """Yield ``pair.{entry}.{rival}.{...}``: rows at the smallest budget against rivals there and uniform 4 bit.
    ``pair.paper.{...}``: the same at the budget that saves about 6 % of the linears, where it is another one;
    ``pair.equal.knapsack.{rival}.{...}``: the knapsack at the bytes of uniform 4 bit;
    ``pair.ramp.knapsack.others``: how ours reads to its start at the other budgets."""
    low, papers = low_budget(study), paper_budget(study)
    if low is not None:
        yield from _pairs_at(study, low, "pair")
    if papers is not None and papers != low:
        yield "paper_budget", bits_title(papers)
        for own in study.find(study.source, "ramp", papers):
            uniform = uniform_reference(study, study.source)
            share = saving(own, uniform, "bytes_linear") if uniform else None
            if share is not None and share < PAPER_SAVING:
                yield "pair.paper.missed", shown(PAPER_SAVING - share, 2, 100)
        yield from _pairs_at(study, papers, "pair.paper")
    yield from _pairs_at(study, REFERENCE_BITS, "pair.equal", ("knapsack",))

    if low is not None:
        others = [
            f"at {bits_title(entry.budget_bits)} bits {KEPT if found.reading == IDENTICAL else found.reading}"
            for entry in study.find(study.source, "ramp")
            for rival in study.find(study.source, "knapsack", entry.budget_bits)
            if entry.budget_bits != low and (found := pair(study, entry, rival, study.primary_text))
        ]
        if others:
            yield "pair.ramp.knapsack.others", ", ".join(others)


def _pairs_at(study: Study, budget: float, prefix: str, methods: Sequence[str] = (*RAMP_METHODS, "knapsack")) -> Items:
    entries = [e for method in methods for e in study.find(study.source, method, budget)]
    rivals = [
        e for method in ("ramp_paper", "knapsack", "random_search") for e in study.find(study.source, method, budget)
    ]
    rivals += [e for method in UNIFORM_METHODS for e in study.find(study.source, method, 4.0)]
    for entry in entries:
        for rival in rivals:
            if entry.method != rival.method and (found := pair(study, entry, rival, study.primary_text)):
                yield from _pair(f"{prefix}.{entry.method}.{rival.method}", found)


def _pair(name: str, found: Pair) -> Items:
    yield f"{name}.entry", found.entry.title
    yield f"{name}.rival", found.rival.title
    yield f"{name}.reading", found.reading
    yield f"{name}.ppl", shown(found.ppl_ratio, 4)
    if found.kl_difference:
        yield f"{name}.kl", shown(found.kl_difference, 4, signed=True)
    if found.kl_ratio:
        yield f"{name}.kl_ratio", shown(found.kl_ratio, 3)
    for part in ("linear", "file"):
        if (share := saving(found.entry, found.rival, f"bytes_{part}")) is not None:
            yield f"{name}.saved_{part}", shown(share, 1, 100)
