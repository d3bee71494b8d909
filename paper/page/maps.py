"""Allocations as data of the results page: the width of every linear, by role and decoder block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper.figures.allocation import SHOWN, reported
from paper.naming import ROLES, STATIC_MIXES, bits_title, method_rank, method_title, model_title, width_names
from paper.page.origin import Origin
from paper.study import Entry, Study

if TYPE_CHECKING:
    import pandas as pd

SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""One letter for each width; a full stop where a model has no such linear."""


def allocation_maps(study: Study, origin: Origin) -> dict[str, Any] | None:
    """Return the reported widths of every row whose linears do not all have one; None without any."""
    entries = [e for model in study.models for e in study.find(model, grid=None)]
    entries.sort(key=lambda e: (study.models.index(e.model), e.grid != "affine", _rank(e.method), e.budget_bits))
    maps: list[dict[str, Any]] = []
    names: dict[str, float] = {}
    for entry in entries:
        part = reported(study, entry)
        if part is None or max(part[column].nunique() for column in ("bits", "type")) < 2:
            continue
        labels = _labels(part, entry)
        names |= dict(zip(labels, part["bits"].astype("float64"), strict=True))
        for seed, run in part.assign(label=labels).groupby("seed"):
            title = f"{method_title(entry.method)}, {_budget(entry)}"
            title += f", seed {seed}" if part["seed"].nunique() > 1 else ""
            maps.append({"model": model_title(entry.model), "title": title, "run": run})
    if not maps:
        return None
    order = sorted(names, key=lambda name: (names[name], name))
    letter = dict(zip(order, SYMBOLS, strict=False))
    found = [{"model": each["model"], "title": each["title"], "cells": _cells(each["run"], letter)} for each in maps]
    return {
        "origin": origin.about("allocations"),
        "roles": ROLES,
        "widths": [[letter[name], name, names[name]] for name in order],
        "maps": found,
    }


def _rank(method: str) -> tuple[int, tuple[int, str]]:
    """Sort key: the methods that the figure prefers first."""
    return (SHOWN.index(method) if method in SHOWN else len(SHOWN), method_rank(method))


def _budget(entry: Entry) -> str:
    if entry.method in STATIC_MIXES:
        return "llama.cpp's own types"
    return f"{bits_title(entry.budget_bits)} bits" + (" (types of GGUF)" if entry.grid == "ggml" else "")


def _labels(part: pd.DataFrame, entry: Entry) -> list[str]:
    """Return the width of every linear: its ggml type, or its bits (``3g32``: with a group size of its own)."""
    return [str(name) for name in (part["type"] if entry.grid == "ggml" else width_names(part))]


def _cells(run: pd.DataFrame, letter: dict[str, str]) -> list[str]:
    """Return a text per role, a letter per block."""
    blocks = int(run["layer"].max()) + 1
    found = {role: ["."] * blocks for role in ROLES}
    for role, layer, label in zip(run["role"], run["layer"], run["label"], strict=True):
        found[str(role)][int(layer)] = letter[label]
    return ["".join(found[role]) for role in ROLES]
