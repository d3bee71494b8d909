"""The metrics file of a row (docs/formats.md). Light: no torch.

``key`` is the record key. ``texts`` holds for each text ``length``, ``windows`` [{``window``, ``tokens``, ``nll``,
``kl``}] and ``ppl``, ``kl`` with the ends of their intervals (``ppl_low``, ...); a window's ``nll`` and ``kl`` are sums
over its tokens, in nats. ``sizes`` and ``made`` come from meta.json, ``search`` from the allocation (null without one).
Beside them ``simulated``, ``note``, ``commit``, ``versions``, ``dtype``, ``arithmetic``, ``hardware`` and ``wall_s``.

Key and sizes come from the row's meta.json, the cost of the search from its allocation, the texts from
``ramp.evaluation.heldout``. What is not finite is null, since JSON has neither NaN nor infinity, and ``note`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ramp.core.arithmetic import in_force
from ramp.core.atomic_files import finite
from ramp.core.errors import RampError
from ramp.core.provenance import commit, versions
from ramp.evaluation.bootstrap import Estimate, interval
from ramp.rows.meta_file import KEY

SIZES = (
    "bytes_file", "bytes_linear", "bytes_embedding", "bytes_head", "bytes_other", "bytes_native", "bits_nominal",
    "bits_nominal_unweighted", "bpw_linear", "bpw_file",
)  # fmt: skip
SEARCH = (
    "kind", "projected", "budget_bytes", "kl_search", "ppl_search", "kl_selection", "kl_start", "kl_start_selection",
    "kl_policy", "search_evals", "search_tokens", "search_wall_s", "notes",
)  # fmt: skip
MADE = (
    "track", "wall_s", "peak_rss_bytes", "peak_gpu_bytes", "simulated", "embedding_type", "head_type", "gguf",
    "external", "failed", "draw", "leak",
)  # fmt: skip
"""Fields that the metrics file takes over from the row's meta.json and allocation."""


def text_metrics(windows: list[dict[str, Any]], length: int) -> dict[str, Any]:
    """Return the entry of one text in the metrics file, intervals by block bootstrap over windows."""
    ppl, kl = interval(windows, "ppl"), interval(windows, "kl")
    return {
        "length": length,
        "windows": [{key: finite(value) for key, value in window.items()} for window in windows],
        **_named("ppl", ppl),
        **_named("kl", kl),
    }


def _named(name: str, found: Estimate) -> dict[str, float | None]:
    return {name: finite(found.value), f"{name}_low": finite(found.low), f"{name}_high": finite(found.high)}


def metrics(
    meta: Mapping[str, Any], texts: Mapping[str, Any], allocation: Mapping[str, Any] | None, **more: Any
) -> dict[str, Any]:
    """Return the metrics file of a row: key and sizes from its meta.json, the texts, the search from its allocation."""
    notes = [meta.get("note", ""), (allocation or {}).get("notes", ""), more.pop("note", "")]
    notes += [
        f"{name} on {text} is not finite"
        for text, each in texts.items()
        for name in ("ppl", "kl")
        if each[name] is None
    ]
    return {
        "key": {name: meta[name] for name in KEY},
        "texts": dict(texts),
        "sizes": {name: meta[name] for name in SIZES if meta.get(name) is not None},
        "made": {name: meta[name] for name in MADE if meta.get(name) is not None},
        "search": {name: allocation[name] for name in SEARCH if name in allocation} if allocation else None,
        "simulated": meta.get("simulated", True),
        "note": "; ".join(dict.fromkeys(filter(None, notes))),
        "commit": commit(),
        "versions": versions(),
        "arithmetic": in_force(),
        **more,
    }


def same_network(meta: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a row that is the network of ``other`` in another file (released = float, de-quantized)."""
    if meta["model"] != other["key"]["model"] or not {meta["stage"], other["key"]["stage"]} <= {"float", "released"}:
        raise RampError(
            f"--same-as joins a float and a released row of one model, not {meta['method']} of {meta['model']} and "
            f"{other['key']['method']} of {other['key']['model']}: evaluate the row itself"
        )
    return _copied(meta, other, None, f"the same network as row {other['key']['method']}, evaluated once")


ALIKE = ("model", "grid", "bits", "group_size", "fold", "track", "draw", "leak")
"""Fields of meta.json in which rows of the same packed tensors are one network."""


def twin_network(
    meta: Mapping[str, Any], other: Mapping[str, Any], allocation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the metrics of a row whose packed tensors are those of ``other``'s: the cost of its search is its own."""
    return _copied(meta, other, allocation, f"the same weights as row {other['key']['method']}, evaluated once")


def _copied(
    meta: Mapping[str, Any], other: Mapping[str, Any], allocation: Mapping[str, Any] | None, note: str
) -> dict[str, Any]:
    kept = {name: other[name] for name in ("commit", "dtype", "arithmetic", "hardware", "wall_s") if name in other}
    return metrics(meta, other["texts"], allocation, note=note, **kept)
