"""Measures of claims.yaml: each function reads the records and returns the comparisons that decide a claim.

A measure raises ``NotTested`` with the reason where the records cannot speak to the claim; it never guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paper.bank_intervals import LEAST_BANKS
from paper.banks import Banks
from paper.comparisons import pair, saving, task_ratio
from paper.equal_quality import sooner_than
from paper.evidence import little_text
from paper.foldings import folding_ratios
from paper.intervals import TAIL
from paper.league import league_ratios
from paper.naming import STATIC_MIXES, TRANSFERRED, method_title, model_title
from paper.study import ALLOCATED, Entry, Study
from ramp.evaluation.bootstrap import Estimate, with_ends
from ramp.methods.names import trained_by


class NotTested(Exception):
    """The records cannot speak to a claim; the message says what they lack."""


@dataclass(frozen=True)
class Comparison:
    """One number that bears on a claim: what it is, its interval, and the rows it rests on."""

    label: str
    estimate: Estimate
    rows: tuple[str, ...]
    lacks: tuple[str, ...] | None = None  # to be evidence; None: what its rows lack (``paper.evidence.lacking``)


Measure = Callable[..., list[Comparison]]


def _some(found: list[Comparison], lacking: str) -> list[Comparison]:
    if not found:
        raise NotTested(lacking)
    return found


def perplexity_at_size(
    study: Study, *, model: str, methods: list[str], text: str, max_gb: float, **_: Any
) -> list[Comparison]:
    """Return the lowest perplexity of final rows of ``methods`` on ``model`` whose file is at most ``max_gb``."""
    if model not in study.models:
        raise NotTested(f"needs {model_title(model)}")
    rows = [e for m in methods for e in study.find(model, m) if (e.mean("bytes_file") or 1e99) <= max_gb * 1e9]
    measured = [(e, found) for e in rows if (found := study.measured(e, text, "ppl"))]
    if not measured:
        raise NotTested(f"no row of {model_title(model)} in a file of {max_gb:g} GB or less, measured on {text}")
    entry, estimate = min(measured, key=lambda each: each[1].value)
    return [Comparison(f"perplexity of {entry.title}", estimate, (entry.row,))]


def _ratio(
    study: Study, entry: Entry, other: Entry | None, what: Literal["KL", "perplexity"], on: str = ""
) -> list[Comparison]:
    """Return the paired ratio of ``entry`` to ``other``, or nothing where they share no windows.

    A ratio of KLs runs over banks where both rows were repeated on enough of them, and its label says so.
    """
    if what == "KL" and other is not None and entry.budget_bits == other.budget_bits:
        over_banks = Banks(study).ratio(entry.model, entry.budget_bits, entry.method, other.method)
        if over_banks and over_banks.banks >= LEAST_BANKS:
            label = f"KL ratio{on}, {entry.title} to {other.title}, over {over_banks.runs_over}"
            lacks = tuple(little_text(over_banks.windows, Banks(study).length(entry.model)))
            return [Comparison(label, over_banks.estimate, (entry.row, other.row), lacks)]
    compared = pair(study, entry, other, study.primary_text) if other else None
    if other is None or compared is None:
        return []
    ratio = compared.kl_ratio if what == "KL" else compared.ppl_ratio
    label = f"{what} ratio{on}, {entry.title} to {other.title}"
    return [Comparison(label, ratio, (entry.row, other.row))] if ratio else []


def quality_at_saving(
    study: Study, *, methods: list[str], rivals: list[str], rival_bits: float, min_saving: float, **_: Any
) -> list[Comparison]:
    """Compare each method's largest row that is ``min_saving`` smaller (bytes_linear) with uniform rows: perplexity."""
    model, found = study.source, []
    for method in methods:
        for rival in (e for name in rivals for e in study.find(model, name, rival_bits)):
            smaller = [e for e in study.find(model, method) if (saving(e, rival, "bytes_linear") or 0) >= min_saving]
            if smaller:
                largest = max(smaller, key=lambda entry: entry.mean("bytes_linear") or 0.0)
                found += _ratio(study, largest, rival, "perplexity")
    named = ", ".join(method_title(name) for name in rivals)
    return _some(found, f"no searched row at least {100 * min_saving:g} % under {rival_bits:g}-bit {named}")


def _transferred(study: Study) -> Iterator[tuple[Entry, str]]:
    """Yield (row, model in words) of RAMP's own policies on targets; a table of role and depth is a rival of theirs."""
    for model in study.models:
        if model != study.source:
            yield from ((e, f" on {model_title(model)}") for e in study.find(model) if e.method in TRANSFERRED)


def transferred_against_own(study: Study, *, rivals: list[str], **_: Any) -> list[Comparison]:
    """Compare the KL of the transferred policy with the target's own result: native search first, then ``rivals``."""
    found = []
    for entry, on in _transferred(study):
        methods = (trained_by(entry.method) or entry.method, *rivals)
        own = (_ratio(study, entry, study.one(entry.model, m, entry.budget_bits), "KL", on) for m in methods)
        found += next(filter(None, own), [])
    return _some(found, "no transferred row beside a result of the target's own")


def transferred_against(study: Study, *, rival: str, **_: Any) -> list[Comparison]:
    """Compare the KL of a structure-only rule ``rival`` with that of the transferred policy, on every target."""
    found = []
    for entry, on in _transferred(study):
        if other := study.one(entry.model, rival, entry.budget_bits):
            found += _ratio(study, other, entry, "KL", on)
    return _some(found, f"no row on a target of a rule that knows layer type and depth alone ({rival})")


def folded_against_plain(
    study: Study, *, pairs: list[list[str]], kinds: list[str], alpha: float, **_: Any
) -> list[Comparison]:
    """Compare folded with unfolded uniform rows below 4 bits in perplexity: of the source, and in the folds' ablation.

    ``pairs`` are whole methods (AWQ also clips); the ablation varies the fold alone. Of its folds those of ``kinds``
    count, of SmoothQuant's the one at ``alpha``.
    """
    found = [Comparison(*one) for one in folding_ratios(study, kinds, alpha)]
    for folded, plain in pairs:
        for entry in (e for e in study.find(study.source, folded) if e.budget_bits < 4):
            found += _ratio(study, entry, study.one(study.source, plain, entry.budget_bits), "perplexity")
    return _some(found, "no folded and unfolded uniform rows below 4 bits")


def ablated(study: Study, *, method: str, ablations: list[str], **_: Any) -> list[Comparison]:
    """Compare the KL of the full reward with each ablated one, at equal budgets: final rows, and rows of the league."""
    found = [Comparison(*one) for one in league_ratios(study, method, ablations)]
    for entry in study.find(study.source, method):
        for name in ablations:
            found += _ratio(study, entry, study.one(study.source, name, entry.budget_bits), "KL")
    return _some(found, f"no ablated rows ({', '.join(ablations)})")


def halo_checks(study: Study, **_: Any) -> list[Comparison]:
    """Return the share of checks of exported files that hold; one that fails decides the claim."""
    frame = study.frame("halo")
    if frame is None:
        raise NotTested("no exported file was checked")
    share = float(frame["ok"].astype(bool).mean())
    files = frame["file"].nunique()
    label = f"share of {len(frame)} checks of {files} exported file{'' if files == 1 else 's'} that hold"
    rows = [e.row for e in study.entries if e.grid == "ggml" and e.method not in STATIC_MIXES]
    return [Comparison(label, Estimate(share, share, share), tuple(rows))]


def tasks_kept(study: Study, *, methods: list[str], **_: Any) -> list[Comparison]:
    """Compare the mean task accuracy of each method's smallest scored row with the float model, item by item."""
    model, found = study.source, []
    reference = study.float_entry(model)
    for method in methods:
        for entry in sorted(study.find(model, method), key=lambda e: e.budget_bits):
            if reference and (kept := task_ratio(study, entry, reference)):
                label = f"mean accuracy of {entry.title} over that of float, {len(kept[2])} tasks, {kept[1]:,} items"
                found.append(Comparison(label, kept[0], (entry.scored(f"acc_{kept[2][0]}").row, reference.row)))
                break
    return _some(found, "no searched row and float model scored on the same items")


def episodes_needed(study: Study, *, methods: list[str], least: int, near: float, **_: Any) -> list[Comparison]:
    """Count episodes until the best KL under the budget is within ``near`` of the search's own final best.

    Only searches of ``least`` episodes are counted: one that ends where the paper's does could need no more.
    """
    if study.frame("episodes") is None:
        raise NotTested("no search was recorded")
    found, longest = [], 0
    for entry in (e for m in methods for e in study.find(study.source, m)):
        needed = []
        part = study.rows_of(entry, "episodes", ("model", "method", "budget_bits"))
        for _seed, run in part.groupby("seed") if part is not None else ():
            run = run.sort_values("episode")
            longest = max(longest, len(run))
            fits = run["feasible"].astype("boolean").fillna(False).to_numpy(bool)
            kl = np.minimum.accumulate(np.where(fits, run["kl"].astype("float64"), np.inf))
            if len(kl) >= least and np.isfinite(kl[-1]):
                needed.append(1 + int(np.argmax(kl <= kl[-1] * (1 + near))))
        if needed:
            estimate = Estimate(float(np.mean(needed)), float(min(needed)), float(max(needed)))
            label = f"episodes until {entry.title} is within {100 * near:g} % of its final best (range over seeds)"
            found.append(Comparison(label, estimate, (entry.row,)))
    if longest < least:
        raise NotTested(f"searches of {longest} episodes; to see that 200 are enough needs {least}")
    return _some(found, f"no search of {least} episodes found an allocation under its budget")


def sooner_to_equal_quality(study: Study, *, methods: list[str], rival: str, **_: Any) -> list[Comparison]:
    """Return the share of pairs of seeds in which a method has the search KL that ``rival`` ends with first."""
    found = [Comparison(*one) for one in sooner_than(study, methods, rival)]
    return _some(found, f"no league with {method_title(rival)} beside {' or '.join(map(method_title, methods))}")


def extra_bits(study: Study, *, method: str, middle: list[float], last_share: float, **_: Any) -> list[Comparison]:
    """Compare mean bits of output projections, and of the last layers, with those of middle MLP layers.

    ``middle``: share of the depth between which a layer is a middle one; ``last_share``: share that are the last ones.
    """
    if study.frame("allocations") is None:
        raise NotTested("no allocation was recorded")
    found = []
    for entry in study.find(study.source, method):
        part = study.rows_of(entry, "allocations", ALLOCATED, which="reported")
        if part is None:
            continue
        mean = part.assign(bits=part["bits"].astype("float64")).groupby(["linear", "layer", "role"])["bits"].mean()
        bits, layer = mean.to_numpy(), mean.index.get_level_values("layer").to_numpy("int64")
        role = mean.index.get_level_values("role").to_numpy(str)
        depth = (layer + 0.5) / (layer.max() + 1)
        inside = (depth >= middle[0]) & (depth <= middle[1]) & np.isin(role, ["gate", "up", "down"])
        for name, group in (("output projections", role == "o"), ("the last layers", depth > 1 - last_share)):
            label = f"mean bits of {name} less those of middle MLP layers, {entry.title}, over linears"
            if group.any() and inside.any():
                found.append(Comparison(label, _mean_gap(bits[group], bits[inside]), (entry.row,)))
    return _some(found, f"no allocation of {method_title(method)} was recorded")


def _mean_gap(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Return the difference of means; its interval is over other linears of the same kinds."""
    rng = np.random.default_rng(0)
    gaps = rng.choice(a, (2000, len(a))).mean(axis=1) - rng.choice(b, (2000, len(b))).mean(axis=1)
    return with_ends(float(a.mean() - b.mean()), gaps, TAIL)


MEASURES: dict[str, Measure] = {
    measure.__name__: measure
    for measure in (
        perplexity_at_size,
        quality_at_saving,
        transferred_against_own,
        transferred_against,
        folded_against_plain,
        ablated,
        halo_checks,
        tasks_kept,
        episodes_needed,
        sooner_to_equal_quality,
        extra_bits,
    )
}
"""Measures by the name that claims.yaml calls them."""
