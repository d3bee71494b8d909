"""Every number that the paper's text names, as the text shows it: one flat dictionary, built from the records.

A key that the records cannot fill is left out; the text asks ``has(key)`` before it uses one, and a missing key that
it uses without asking fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from paper.budgets import budget_bytes, low_budget
from paper.comparisons import saving
from paper.evidence import shortages
from paper.gguf import gguf_values
from paper.leakage import leakage_values
from paper.naming import (
    CONTROL_METHODS,
    RAMP_METHODS,
    REFERENCE_BITS,
    STATIC_MIXES,
    bits_title,
    method_title,
    model_title,
    text_title,
    width_names,
)
from paper.noise import noise_values
from paper.reproduction import SHIPPED, reproduction_values
from paper.search_over_banks import UNIFORM, bank_values
from paper.study import Entry, Study
from paper.tables.main import uniform_reference
from paper.tables.model import estimate_of
from paper.tables.sizes import AWQ_GB, IQ4_XS, PAPER_GB, SAVED_GB
from paper.tuning import tuning_values
from paper.values_claims import claim_values
from paper.values_league import league_values
from paper.values_pairs import pair_values
from paper.values_tasks import task_values
from paper.words import listed, plural, shown
from ramp.quantizers.widths import WHOLE_ROW, Width, make_menu, split

if TYPE_CHECKING:
    import pandas as pd

PARITY_LIMIT = 1.02
"""KL or error of ours over the package's, above which a difference needs a named cause."""

EQUAL_SETTINGS = "equal"
"""``settings`` of the rows of parity.csv in which both sides were set alike."""


FAMILIES = ("smollm2", "qwen2.5-coder", "llama-2", "mistral", "gemma3", "llama-3")
"""Families of models by the beginnings of their names."""

JUDGING = re.compile(
    r"pair\..*\.(reading|others)|tuning\.(pair|better)|gguf\.\w+\.(better|worse|outcome)|transfer\.above_random"
    r"|league\.(reading|advice|switches|updates)|leakage\.row|fold\.counts"
)
"""Beginnings of the keys that say which of two is better: a study that is no evidence has none of them."""


def values(study: Study) -> dict[str, str]:
    """Return all keys with their text."""
    parts = (
        *(_study, _rows, pair_values, claim_values, _search, _transfer),
        *(_halo, gguf_values, task_values, _outliers, _parity, league_values, bank_values, tuning_values, noise_values),
        *(leakage_values, reproduction_values),
    )
    found = {key: text for part in parts for key, text in part(study)}
    return {key: text for key, text in found.items() if not JUDGING.match(key)} if shortages(study) else found


Items = Iterator[tuple[str, str]]

SAME_INPUT = ("k", "v", "up")
"""Roles that read the input of another one, ``q`` or ``gate``, which stands for it."""

ELSEWHERE = ("folding", "banks", "leakage", "tuning", "stability")
"""Tables beside the records that name the hardware of each line."""


def _study(study: Study) -> Items:
    source = study.find(study.source, grid=None, stage=None)
    yield "study", study.name
    yield "source", model_title(study.source)
    yield "text", text_title(study.primary_text)
    yield "limits", study.limits([e for e in source if e.method != "released"], study.primary_text)
    yield "seeds", study.seeds(source)
    yield "float.title", study.float_title(study.source)
    if missing := shortages(study):
        yield "evidence.missing", "; ".join(missing)
    own = [entry for entry in study.find(study.source) if entry.is_quantized and not entry.is_external]
    own = [entry for entry in own if entry.mean("bytes_linear") and not entry.not_run]
    ran = list(dict.fromkeys(method_title(e.method) for e in own if e.method not in (*RAMP_METHODS, *CONTROL_METHODS)))
    yield "methods", listed(ran) if ran else "nothing"
    yield (
        "methods.all",
        listed([*ran, *([method_title("ramp")] if study.find(study.source, "ramp") else [])] or ["nothing"]),
    )
    if study.ran_ramp:
        yield "ramp", "yes"
    if study.ran_ramp and study.name in SHIPPED:
        yield "replication", "yes"
    for family in FAMILIES:
        if any(model.startswith(family) for model in study.models):
            yield f"family.{family}", "yes"
    if any(model.startswith("tiny-") for model in study.models):
        yield "family.trained", "yes"
    if "wikitext2" in study.texts:
        yield "wikitext2", "yes"
    yield "sizes.iq4_xs", f"{IQ4_XS.gigabytes()[0]:.3f}"
    yield "sizes.saved", f"{SAVED_GB:.3f}"
    yield "sizes.paper_saved", f"{AWQ_GB - PAPER_GB:.2f}"
    yield "rows", f"{len(study.frames['records']):,}"
    targets = [model_title(model) for model in study.models if model != study.source]
    if targets:
        yield "targets", listed(targets)
    allocations = study.frame("allocations")
    if allocations is not None:
        own = allocations[(allocations["model"] == study.source) & (allocations["which"] == "reported")]
        uniform = {entry.method for entry in source if entry.is_uniform}
        mixed = own[(own["grid"] == "affine") & ~own["method"].isin(uniform)].dropna(subset=["bits"])
        yield "linears", f"{own['linear'].nunique():,}"
        yield "layers", f"{int(own['layer'].max()) + 1}"
        if len(mixed):
            yield from _widths(make_menu(width_names(mixed), int(mixed["group_size"].iloc[0])))
    hardware = {str(name) for name in study.frames["records"].get("hardware", []) if str(name)}
    frames = [each for each in map(study.frame, ELSEWHERE) if each is not None]
    others = {str(name) for each in frames for name in each.get("hardware", []) if str(name)} - hardware
    for key, names in (("hardware", hardware), ("hardware.others", others)):
        if names:
            yield key, listed(sorted(names))
    ours = [entry for entry in source if not entry.is_external and entry.method not in CONTROL_METHODS]
    group = {entry.group_size for entry in ours if entry.group_size}
    if len(group) == 1:
        yield "group_size", str(group.pop())


def _widths(menu: list[Width]) -> Items:
    """Yield ``widths`` that mixed rows use; ``widths.group`` reads a name with groups, and one of whole rows."""
    yield "widths", ", ".join(str(width) for width in menu)
    read: dict[bool, str] = {}
    for width in (width for width in menu if isinstance(width, str)):
        bits, group = split(width)
        groups = "one group per row" if group == WHOLE_ROW else f"groups of {group}"
        read.setdefault(group == WHOLE_ROW, f"{width}: {bits} bits, {groups}")
    if read:
        yield "widths.group", "; ".join(read.values())


def _rows(study: Study) -> Items:
    """Yield ``row.{method}.{bits}.{ppl,kl,mb,saved_linear,saved_file,title}`` of the source's final affine rows."""
    uniform = uniform_reference(study, study.source)
    low = low_budget(study)
    if low is not None:
        yield "budget", bits_title(low)
    yield from _released(study)
    yield from _small_groups(study)
    reference = study.float_entry(study.source)
    ppl = study.measured(reference, study.primary_text, "ppl") if reference else None
    if ppl:
        yield "float.ppl", shown(ppl.value)
    for entry in study.find(study.source):
        names = [f"row.{entry.method}.{bits_title(entry.budget_bits)}"]
        names += [f"row.{entry.method}.low"] if entry.budget_bits == low else []
        for name in names:
            yield from ((f"{name}.{key}", text) for key, text in _row(study, entry, uniform))


def _released(study: Study) -> Items:
    """Yield ``released.{mb,type}`` of the file that the source model was released as; its KL is 0 by definition."""
    for entry in study.find(study.source, "released", grid=None, stage=None):
        if size := entry.mean("bytes_file"):
            yield "released.mb", shown(size, scale=1e-6)
            yield "released.type", str(entry.records["track"].iloc[0])


def _small_groups(study: Study) -> Items:
    """Yield ``groups``: KL and bytes of the uniform reference with smaller groups, beside it, in words."""
    uniform = study.one(study.source, UNIFORM, REFERENCE_BITS)
    found = []
    for entry in study.find(study.source, bits=REFERENCE_BITS) if uniform else []:
        share, kl = saving(entry, uniform, "bytes_linear"), study.measured(entry, study.primary_text, "kl")
        if entry.method.startswith(f"{UNIFORM}_g") and share is not None and share < 0 and kl:
            found.append(f"groups of {entry.group_size} a KL of {shown(kl, 4)} at {shown(-share, 1, 100)} % more bytes")
    if found:
        yield "groups", listed(found)


def _row(study: Study, entry: Entry, uniform: Entry | None) -> Items:
    yield "title", entry.title
    for what, digits in (("ppl", 2), ("kl", 4)):
        if estimate := study.measured(entry, study.primary_text, what):
            yield what, shown(estimate, digits)
    if size := entry.mean("bytes_file"):
        yield "mb", shown(size, scale=1e-6)
    for part in ("linear", "file"):
        if uniform and (share := saving(entry, uniform, f"bytes_{part}")) is not None:
            yield f"saved_{part}", shown(share, 1, 100)


def _search(study: Study) -> Items:
    """Yield ``search.{method}.{evals,tokens,start,end}`` at the smallest budget."""
    episodes = study.frame("episodes")
    if episodes is not None:
        yield "episodes", f"{len(episodes):,}"
    low = low_budget(study)
    for entry in study.find(study.source, bits=low) if low is not None else []:
        name = f"search.{entry.method}"
        for key, column, digits, scale in (
            ("evals", "search_evals", 0, 1.0),
            ("tokens", "search_tokens", 0, 1e-3),
            ("start", "kl_start_selection", 4, 1.0),
            ("end", "kl_selection", 4, 1.0),
        ):
            value = entry.mean(column)
            if value is not None:
                yield f"{name}.{key}", shown(value, digits, scale)
    if episodes is not None:
        actors = episodes[(episodes["model"] == study.source) & (episodes["proposer"] == "actor")]
        for method, part in actors.groupby("method"):
            if not part["feasible"].astype("boolean").fillna(False).any():
                words = f"{len(part):,} allocations of its policy, none of them within the budget"
                yield f"search.{method}.unmet", words + _excess(study, part)


def _excess(study: Study, episodes: pd.DataFrame) -> str:
    """Return by how much allocations exceed their budgets in the median, at first and at last, in words."""
    found = []
    for bits, part in episodes.groupby("budget_bits"):
        budget = budget_bytes(study, float(bits))
        if budget is None:
            return ""
        over = part.sort_values("episode", kind="stable")["bytes"].dropna().to_numpy("float64") / budget - 1
        ends = (shown(float(np.median(half)), 0, 100) for half in np.array_split(over, 2) if len(half))
        found.append(f"{' and '.join(dict.fromkeys(ends))} % at {bits_title(float(bits))} bits")
    return f" (their bytes exceed it by a median, of the first and of the second half, of {listed(found)})"


def _transfer(study: Study) -> Items:
    frame = study.frame("transfer")
    if frame is None:
        return
    table = frame[frame["policy"] == "role_depth"]["gap_closed"].dropna()
    if not table.empty:
        ends = list(dict.fromkeys(shown(float(end)) for end in (table.min(), table.max())))
        yield "transfer.role_depth", f"between {listed(ends)}" if len(ends) > 1 else ends[0]
    known = frame[frame["policy"].isin(RAMP_METHODS)].dropna(subset=["gap_closed"])
    if known.empty:
        return
    yield "transfer.rows", str(len(known))
    worst, best = known.loc[known["gap_closed"].idxmin()], known.loc[known["gap_closed"].idxmax()]
    for name, line in (("worst", worst), ("best", best)):
        if gap := estimate_of(line, "gap_closed"):
            yield f"transfer.{name}", shown(gap)
        yield f"transfer.{name}.target", model_title(str(line["target"]))
    if known["target"].nunique() == 1:
        yield "transfer.one_target", model_title(str(worst["target"]))
    if "ramp" in set(known["policy"]):  # which clones the knapsack; the paper's variant starts from nothing
        yield "transfer.cloned", "yes"
    if known["kl_native"].notna().any():
        yield "transfer.native", "yes"
    drawn = [e.mean("search_evals") for model in study.models[1:] for e in study.find(model, "random_search")]
    if counts := sorted({round(count) for count in drawn if count}):
        yield "transfer.random.evals", f"{' or '.join(f'{count:,}' for count in counts)} evaluations"
    above = (known["ci_low"] > 0).sum()
    yield "transfer.above_random", str(int(above))


def _halo(study: Study) -> Items:
    frame = study.frame("halo")
    if frame is None:
        return
    yield "halo.files", plural(frame["file"].nunique(), "exported file")
    yield "halo.checks", plural(len(frame), "check")
    yield "halo.failed", str(int((~frame["ok"].astype(bool)).sum()))
    perplexity = frame[frame["check"].str.contains("perplexity") & frame["value"].notna()]
    if not perplexity.empty:
        yield "halo.perplexity", shown(float(perplexity["value"].max()), digits=2, scale=100)
        yield "halo.perplexity.limit", shown(float(perplexity["limit"].max()), digits=1, scale=100)
    exported = [e for e in study.find(study.source, grid="ggml", stage=None) if e.method not in STATIC_MIXES]
    sizes = [size for e in exported if (size := e.mean("bytes_file"))]
    uniform = uniform_reference(study, study.source)
    if sizes and uniform and (size := uniform.mean("bytes_file")):
        yield "halo.mb", shown(min(sizes), scale=1e-6)
        yield "halo.uniform.mb", shown(size, scale=1e-6)


def _outliers(study: Study) -> Items:
    """Yield ``outliers.{fold}``: median over inputs of the largest over the median channel; ``.max``: the largest."""
    from paper.figures.outliers import channel_ratios

    frame = study.frame("activations")
    if frame is None:
        return
    own = frame[frame["model"] == study.source]
    ratios = channel_ratios(own[~own["role"].isin(SAME_INPUT)])
    for fold, part in ratios.groupby("fold"):
        yield f"outliers.{fold}", shown(float(part["ratio"].median()), digits=1)
        yield f"outliers.{fold}.max", shown(float(part["ratio"].max()), digits=0)


def _parity(study: Study) -> Items:
    """Yield ``parity.{pairs,within,within.kl,within.error}``: pairs at equal settings, and how many are at most 2 %
    above the package in KL, in error, and in both; ``parity.{kl,error}.{best,worst}``: their ratios; ``parity.others``:
    rows with other settings, absent without any."""
    frame = study.frame("parity")
    if frame is None:
        return
    equal = frame["settings"] == EQUAL_SETTINGS
    pairs = frame[equal].dropna(subset=["ratio", "error_ratio"])
    if pairs.empty:
        return
    ratios = {"kl": pairs["ratio"].astype("float64"), "error": pairs["error_ratio"].astype("float64")}
    inside = {key: each <= PARITY_LIMIT for key, each in ratios.items()}
    yield "parity.pairs", plural(len(pairs), "pair")
    yield "parity.packages", listed(sorted({str(name) for name in pairs["reference"]}))
    yield "parity.groups", listed([str(size) for size in sorted(set(pairs["group_size"].astype(int)))])
    yield "parity.within", str(int((inside["kl"] & inside["error"]).sum()))
    for key, each in ratios.items():
        yield f"parity.within.{key}", str(int(inside[key].sum()))
        yield f"parity.{key}.best", shown(float(each.min()), digits=3)
        yield f"parity.{key}.worst", shown(float(each.max()), digits=3)
    if not equal.all():
        yield "parity.others", str(int((~equal).sum()))


def document(study: Study) -> dict[str, Any]:
    """Return what the typst source reads: the values, and the models whose tables it includes."""
    return {"values": values(study), "models": study.models}
