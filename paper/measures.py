"""What claims.yaml can measure: each function reads the records and returns the comparisons that decide a claim.

A measure raises ``NotTested`` with the reason where the records cannot speak to the claim; it never guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paper.comparisons import pair, saving, task_ratio
from paper.equal_quality import sooner_than
from paper.foldings import folding_ratios
from paper.intervals import Estimate
from paper.league import league_ratios
from paper.naming import STATIC_MIXES, TRANSFERRED, method_title, model_title
from paper.study import Entry, Study


class NotTested(Exception):
    """The records cannot speak to a claim; the message says what they lack."""


@dataclass(frozen=True)
class Comparison:
    """One number that bears on a claim: what it is, its interval, and the rows it rests on."""

    label: str
    estimate: Estimate
    rows: tuple[str, ...]


Measure = Callable[..., list[Comparison]]


def _some(found: list[Comparison], lacking: str) -> list[Comparison]:
    if not found:
        raise NotTested(lacking)
    return found


def perplexity_at_size(
    study: Study, *, model: str, methods: list[str], text: str, max_gb: float, **_: Any
) -> list[Comparison]:
    """Lowest perplexity among final rows of ``methods`` on ``model`` whose file is at most ``max_gb``."""
    if model not in study.models:
        raise NotTested(f"needs {model_title(model)}")
    rows = [e for m in methods for e in study.find(model, m) if (e.mean("bytes_file") or 1e99) <= max_gb * 1e9]
    measured = [(e, found) for e in rows if (found := study.measured(e, text, "ppl"))]
    if not measured:
        raise NotTested(f"no row of {model_title(model)} in a file of {max_gb:g} GB or less, measured on {text}")
    entry, estimate = min(measured, key=lambda each: each[1].value)
    return [Comparison(f"perplexity of {entry.title}", estimate, (entry.row,))]


def quality_at_saving(
    study: Study, *, methods: list[str], rivals: list[str], rival_bits: float, min_saving: float, **_: Any
) -> list[Comparison]:
    """Perplexity ratio to uniform rows of each method's largest row at least ``min_saving`` smaller (bytes_linear)."""
    model, found = study.source, []
    for method in methods:
        for rival in (e for name in rivals for e in study.find(model, name, rival_bits)):
            smaller = [e for e in study.find(model, method) if (saving(e, rival, "bytes_linear") or 0) >= min_saving]
            if smaller and (compared := pair(study, max(smaller, key=_size), rival, study.primary_text)):
                label = f"perplexity ratio, {compared.entry.title} to {rival.title}"
                found.append(Comparison(label, compared.ppl_ratio, (compared.entry.row, rival.row)))
    named = ", ".join(method_title(name) for name in rivals)
    return _some(found, f"no searched row at least {100 * min_saving:g} % under {rival_bits:g}-bit {named}")


def _size(entry: Entry) -> float:
    return entry.mean("bytes_linear") or 0.0


def _transferred(study: Study) -> Iterator[Entry]:
    """Rows of RAMP's own policies on targets; a table of role and depth is transferred as their rival."""
    for model in study.models:
        if model != study.source:
            yield from (e for e in study.find(model) if e.method in TRANSFERRED)


def transferred_against_own(study: Study, *, rivals: list[str], **_: Any) -> list[Comparison]:
    """KL of the transferred policy over that of the target's own result: native search first, then ``rivals``."""
    found = []
    for entry in _transferred(study):
        native = entry.method.removesuffix("_transfer")
        for method in (native, *rivals):
            own = study.one(entry.model, method, entry.budget_bits)
            compared = pair(study, entry, own, study.primary_text) if own else None
            if own and compared and compared.kl_ratio:
                label = f"KL ratio on {model_title(entry.model)}, {entry.title} to {own.title}"
                found.append(Comparison(label, compared.kl_ratio, (entry.row, own.row)))
                break
    return _some(found, "no transferred row beside a result of the target's own")


def transferred_against(study: Study, *, rival: str, **_: Any) -> list[Comparison]:
    """KL of a structure-only rule ``rival`` over that of the transferred policy, on every target."""
    found = []
    for entry in _transferred(study):
        other = study.one(entry.model, rival, entry.budget_bits)
        compared = pair(study, other, entry, study.primary_text) if other else None
        if other and compared and compared.kl_ratio:
            label = f"KL ratio on {model_title(entry.model)}, {other.title} to {entry.title}"
            found.append(Comparison(label, compared.kl_ratio, (other.row, entry.row)))
    return _some(found, f"no row on a target of a rule that knows layer type and depth alone ({rival})")


def folded_against_plain(
    study: Study, *, pairs: list[list[str]], kinds: list[str], alpha: float, **_: Any
) -> list[Comparison]:
    """Perplexity ratio of folded to unfolded uniform rows below 4 bits: of the source, and in the folds' ablation.

    ``pairs`` are whole methods (AWQ also clips); the ablation varies the fold alone. Of its folds those of ``kinds``
    speak, of SmoothQuant's the one at ``alpha``.
    """
    found = [Comparison(*one) for one in folding_ratios(study, kinds, alpha)]
    for folded, plain in pairs:
        for entry in (e for e in study.find(study.source, folded) if e.budget_bits < 4):
            other = study.one(study.source, plain, entry.budget_bits)
            if other and (compared := pair(study, entry, other, study.primary_text)):
                label = f"perplexity ratio, {entry.title} to {other.title}"
                found.append(Comparison(label, compared.ppl_ratio, (entry.row, other.row)))
    return _some(found, "no folded and unfolded uniform rows below 4 bits")


def ablated(study: Study, *, method: str, ablations: list[str], **_: Any) -> list[Comparison]:
    """KL of the full reward over that of each ablated reward, at equal budgets: final rows, and rows of the league."""
    found = [Comparison(*one) for one in league_ratios(study, method, ablations)]
    for entry in study.find(study.source, method):
        for other in (study.one(study.source, name, entry.budget_bits) for name in ablations):
            compared = pair(study, entry, other, study.primary_text) if other else None
            if other and compared and compared.kl_ratio:
                label = f"KL ratio, {entry.title} to {other.title}"
                found.append(Comparison(label, compared.kl_ratio, (entry.row, other.row)))
    return _some(found, f"no ablated rows ({', '.join(ablations)})")


def halo_checks(study: Study, **_: Any) -> list[Comparison]:
    """Share of checks of exported files that hold; one that fails decides the claim."""
    frame = study.frame("halo")
    if frame is None:
        raise NotTested("no exported file was checked")
    share = float(frame["ok"].astype(bool).mean())
    files = frame["file"].nunique()
    label = f"share of {len(frame)} checks of {files} exported file{'' if files == 1 else 's'} that hold"
    rows = [e.row for e in study.entries if e.grid == "ggml" and e.method not in STATIC_MIXES]
    return [Comparison(label, Estimate(share, share, share), tuple(rows))]


def tasks_kept(study: Study, *, methods: list[str], **_: Any) -> list[Comparison]:
    """Mean task accuracy relative to the float model, item by item, of each method's smallest scored row."""
    model, found = study.source, []
    reference = study.float_entry(model)
    for method in methods:
        for entry in sorted(study.find(model, method), key=lambda e: e.budget_bits):
            if reference and (kept := task_ratio(study, entry, reference)):
                label = f"mean accuracy of {entry.title} over that of float, {len(kept[2])} tasks, {kept[1]:,} items"
                found.append(Comparison(label, kept[0], (entry.scored(f"acc_{kept[2][0]}").row, reference.row)))
                break
    return _some(found, "no searched row and float model scored on the same items")


def episodes_needed(
    study: Study, *, methods: list[str], paper_episodes: int, near: float, **_: Any
) -> list[Comparison]:
    """Episodes until the best KL under the budget is within ``near`` of the search's own final best."""
    frame = study.frame("episodes")
    if frame is None:
        raise NotTested("no search was recorded")
    found, longest = [], 0
    for entry in (e for m in methods for e in study.find(study.source, m)):
        needed = []
        part = frame[(frame["model"] == entry.model) & (frame["method"] == entry.method)]
        for _seed, run in part[(part["budget_bits"] - entry.budget_bits).abs() < 1e-9].groupby("seed"):
            run = run.sort_values("episode")
            kl = run["kl"].astype("float64").cummin().to_numpy()
            longest = max(longest, len(kl))
            if len(kl) and np.isfinite(kl[-1]):
                needed.append(1 + int(np.argmax(kl <= kl[-1] * (1 + near))))
        if needed:
            estimate = Estimate(float(np.mean(needed)), float(min(needed)), float(max(needed)))
            label = f"episodes until {entry.title} is within {100 * near:g} % of its final best (range over seeds)"
            found.append(Comparison(label, estimate, (entry.row,)))
    if longest < paper_episodes:
        raise NotTested(f"searches of {longest} episodes, the paper's lower figure is {paper_episodes}")
    return _some(found, "no search of a learned method was recorded")


def sooner_to_equal_quality(study: Study, *, methods: list[str], rival: str, **_: Any) -> list[Comparison]:
    """Share of pairs of seeds in which a method has the search KL that ``rival`` ends with before the rival has it."""
    found = [Comparison(*one) for one in sooner_than(study, methods, rival)]
    return _some(found, f"no league with {method_title(rival)} beside {' or '.join(map(method_title, methods))}")


def extra_bits(study: Study, *, method: str, middle: list[float], last_share: float, **_: Any) -> list[Comparison]:
    """Mean bits of output projections, and of the last layers, above those of middle MLP layers (bootstrap of linears).

    ``middle``: share of the depth between which a layer is a middle one; ``last_share``: share that are the last ones.
    """
    frame = study.frame("allocations")
    if frame is None:
        raise NotTested("no allocation was recorded")
    found = []
    for entry in study.find(study.source, method):
        part = frame[(frame["model"] == entry.model) & (frame["method"] == entry.method) & (frame["grid"] == "affine")]
        part = part[(part["which"] == "reported") & ((part["budget_bits"] - entry.budget_bits).abs() < 1e-9)]
        if part.empty:
            continue
        mean = part.assign(bits=part["bits"].astype("float64")).groupby(["linear", "layer", "role"])["bits"].mean()
        bits, layer = mean.to_numpy(), mean.index.get_level_values("layer").to_numpy("int64")
        role = mean.index.get_level_values("role").to_numpy(str)
        depth = (layer + 0.5) / (layer.max() + 1)
        inside = (depth >= middle[0]) & (depth <= middle[1]) & np.isin(role, ["gate", "up", "down"])
        for name, group in (("output projections", role == "o"), ("the last layers", depth > 1 - last_share)):
            label = f"mean bits of {name} less those of middle MLP layers, {entry.title}"
            if group.any() and inside.any():
                found.append(Comparison(label, _mean_gap(bits[group], bits[inside]), (entry.row,)))
    return _some(found, f"no allocation of {method_title(method)} was recorded")


def _mean_gap(a: np.ndarray, b: np.ndarray, draws: int = 2000) -> Estimate:
    """Difference of means; the interval says how it would move with other linears of the same kinds."""
    rng = np.random.default_rng(0)
    gaps = rng.choice(a, (draws, len(a))).mean(axis=1) - rng.choice(b, (draws, len(b))).mean(axis=1)
    return Estimate(float(a.mean() - b.mean()), *np.percentile(gaps, (2.5, 97.5)).tolist())


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
