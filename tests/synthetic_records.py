"""Made-up records with the shape of a study's, for tests of tables, figures, claims and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from paper.study import Study
from ramp.core.atomic_files import write_json
from ramp.records.table import read_all, read_table, write_table

LAYERS, WINDOWS, LENGTH, ITEMS = 6, 12, 512, 40
ROLES = {
    "q": (64, 64),
    "k": (32, 64),
    "v": (32, 64),
    "o": (64, 64),
    "gate": (128, 64),
    "up": (128, 64),
    "down": (64, 128),
}
TASKS = ("piqa", "arc_easy")
SOURCE, TARGET = "smollm2-135m", "qwen2.5-coder-0.5b"
KL = {"rtn": 1.0, "gptq": 0.8, "awq": 0.6, "awq_gptq": 0.5, "random_search": 0.6, "knapsack": 0.45, "ramp_paper": 0.55}
KL |= {"ramp": 0.4, "ramp_transfer": 0.47, "role_depth_transfer": 0.55}
UNIFORM = ("rtn", "gptq", "awq", "awq_gptq", "gptqmodel_gptq")


def key(model: str, method: str, bits: float, seed: int = 0, **other: Any) -> dict[str, Any]:
    """The record key of one row."""
    plain = method in ("float", "released")
    values = {
        "study": "synthetic",
        "model": model,
        "method": method,
        "grid": method if plain else "affine",
        "stage": method if plain else "final",
        "budget_bits": float(bits),
        "group_size": 0 if plain else 64,
        "fold": "none" if method in ("float", "released", "rtn", "gptq") else "awq",
        "seed": seed,
    }
    return values | other


def allocation(bits: float, rng: np.random.Generator, uniform: bool) -> list[dict[str, Any]]:
    """Width and bytes of every linear; mixed ones average about ``bits``."""
    rows = []
    for layer in range(LAYERS):
        for role, (d_out, d_in) in ROLES.items():
            width = int(bits) if uniform else int(np.clip(round(rng.normal(bits, 0.8)), 3, 6))
            size = d_out * d_in * width // 8 + d_out * (d_in // 64) * (2 + width // 2)
            rows.append({"linear": f"model.layers.{layer}.{role}", "layer": layer, "role": role, "bits": width})
            rows[-1] |= {"type": "affine", "bytes": size}
    return rows


class Maker:
    """Collects the rows of all tables while it goes through the methods."""

    def __init__(self, seeds: tuple[int, ...], texts: tuple[str, ...], scored: bool) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("records", "windows", "items", "allocations", "episodes", "activations")
        }
        self.seeds, self.texts, self.scored = seeds, texts, scored
        rng = np.random.default_rng(7)
        self.hard = {text: rng.normal(3.0, 0.2, WINDOWS) for text in texts}

    def row(self, model: str, method: str, bits: float, seed: int, **other: Any) -> None:
        """One record with its windows, items and allocation."""
        rng = np.random.default_rng([len(model), len(method), int(100 * bits), seed])
        named = key(model, method, bits, seed, **other)
        plain = method in ("float", "released")
        kl = 0.0 if plain else KL.get(method, 0.7) * 0.35 ** (bits - 3)
        plain_kind = "uniform" if method in UNIFORM else "proxy" if method == "knapsack" else "best"
        kind = method if plain else plain_kind
        record = named | {"track": "q8_0", "produced": "simulated", "kind": kind}
        if not plain:
            linears = allocation(bits, rng, method in UNIFORM)
            size = int(sum(line["bytes"] for line in linears) if method in UNIFORM else 27_648 * (bits + 0.5))
            weights = sum(a * b for a, b in ROLES.values()) * LAYERS
            record |= {"bytes_linear": size, "bpw_linear": 8 * size / weights, "bits_nominal": float(bits)}
            record |= {"bytes_embedding": 70_000, "bytes_head": 0, "bytes_other": 5_000, "bytes_file": size + 75_000}
            self.tables["allocations"] += [named | {"which": "reported"} | line for line in linears]
        elif method == "released":
            record |= {"bytes_file": 230_000, "note": "released Q4_1 file"}
        else:
            record |= {"bytes_file": 700_000, "bytes_linear": 440_000, "bpw_linear": 16.0, "bits_nominal": 16.0}
            record |= {"note": "size of a hypothetical 16-bit file; released Q4_1 checkpoint, de-quantized"}
        if method != "released":
            self._measure(record, named, kl, rng)
        if method in ("random_search", "ramp_paper", "ramp", "knapsack"):
            self._search(record, named, kl, rng)
        self.tables["records"].append(record)

    def _measure(self, record: dict[str, Any], named: dict[str, Any], kl: float, rng: np.random.Generator) -> None:
        for text in self.texts:
            tokens = LENGTH - 1
            divergence = kl * np.exp(rng.normal(0, 0.1, WINDOWS)) * tokens
            nll = self.hard[text] * tokens + divergence
            for window in range(WINDOWS):
                line = {"text": text, "window": window, "tokens": tokens, "nll": nll[window], "kl": divergence[window]}
                self.tables["windows"].append(named | line)
            ppl, mean = float(np.exp(nll.sum() / tokens / WINDOWS)), float(divergence.sum() / tokens / WINDOWS)
            record |= {f"ppl_{text}": ppl, f"ppl_low_{text}": 0.9 * ppl, f"ppl_high_{text}": 1.1 * ppl}
            record |= {f"kl_{text}": mean, f"kl_low_{text}": 0.9 * mean, f"kl_high_{text}": 1.1 * mean}
            record |= {f"n_windows_{text}": WINDOWS, f"length_{text}": LENGTH}
        if self.scored and (record["method"], record["budget_bits"]) in SCORED:
            for task in TASKS:
                right = np.random.default_rng(len(task)).random(ITEMS) < 0.6
                right ^= rng.random(ITEMS) < 0.2 * kl
                for item, correct in enumerate(right):
                    self.tables["items"].append(named | {"task": task, "doc_id": item, "correct": bool(correct)})
                record |= {f"acc_{task}": float(right.mean()), f"acc_se_{task}": 0.07, f"n_items_{task}": ITEMS}

    def _search(self, record: dict[str, Any], named: dict[str, Any], kl: float, rng: np.random.Generator) -> None:
        tried = 1 if record["method"] == "knapsack" else 30
        scores = kl * np.exp(np.abs(rng.normal(0, 0.3, tried)) * np.linspace(2, 0.2, tried)) * 1.02
        for episode, score in enumerate(scores):
            line = {"episode": episode, "evals": episode + 1, "tokens": 2048 * (episode + 1), "kl": float(score)}
            self.tables["episodes"].append(named | line | {"proposer": "policy"})
        record |= {"search_evals": tried, "search_tokens": 2048 * tried, "search_wall_s": 1.5 * tried}
        record |= {"kl_search": float(scores.min()), "kl_selection": float(scores.min()), "projected": False}
        if record["method"] in ("ramp", "knapsack"):
            record |= {"kl_start": float(scores[0]), "kl_start_selection": 1.1 * float(scores[0])}

    def packages(self) -> None:
        """Rows of two packages: one that ran, and one that could not."""
        self.row(SOURCE, "gptqmodel_gptq", 4, 0)
        self.tables["records"][-1] |= {"kind": "package", "note": "gptqmodel 7.6.0"}
        failed = key(SOURCE, "gptqmodel_awq", 4) | {"kind": "package", "produced": "not run", "track": "q8_0"}
        self.tables["records"].append(failed | {"note": "RuntimeError: no kernel for this processor"})

    def skipped(self) -> None:
        """Rows of a quantizer and of an allocator that had a reason not to run."""
        none = {"produced": "not run", "track": "q8_0", "search_evals": 0, "search_tokens": 0}
        for method, bits, kind in (("gpu_only", 4, "uniform"), ("lacks", 3.65, "not run")):
            self.tables["records"].append(key(SOURCE, method, bits) | none | {"kind": kind, "note": "it needs a GPU"})

    def activations(self, model: str) -> None:
        """Channel quantiles before and after folding."""
        for fold, top in (("none", 80.0), ("awq", 12.0)):
            for layer in range(LAYERS):
                for role in ROLES:
                    for quantile, absmax in ((0.5, 1.0), (0.99, 0.3 * top), (1.0, top * (1 + layer % 3))):
                        line = {"model": model, "fold": fold, "linear": f"model.layers.{layer}.{role}", "layer": layer}
                        line |= {"role": role, "channel_quantile": quantile, "absmax": absmax, "absmean": absmax / 4}
                        self.tables["activations"].append(line)

    def controls(self, model: str) -> None:
        """A uniform row with groups of 32 and the knapsack at its bytes, a static mix, a row in a second track, and a
        mix that could not be made."""
        self.row(model, "awq_gptq_g32", 3, 0, group_size=32)
        size = self.tables["records"][-1]["bytes_linear"]
        self.row(model, "knapsack", 3.33, 0)
        self.tables["records"][-1] |= {"bytes_linear": size - 10}
        self.row(model, "q4_k_m", 4, 0, grid="ggml", fold="none", group_size=0)
        self.row(model, "ramp", 4, 0, stage="final_fp16")
        self.tables["records"][-1] |= {"track": "fp16", "bytes_embedding": 140_000}
        failed = key(model, "q3_k_m", 3, 0, grid="ggml", fold="none", group_size=0)
        self.tables["records"].append(failed | {"note": "not run: llama.cpp is not installed"})


SCORED = {("float", 16.0), ("gptq", 4.0), ("awq", 4.0), ("ramp", 3.65)}


def write_records(
    folder: Path,
    *,
    seeds: tuple[int, ...] = (0,),
    texts: tuple[str, ...] = ("heldout",),
    scored: bool = True,
    without: tuple[str, ...] = (),
    packages: bool = False,
    controls: bool = False,
    skipped: bool = False,
) -> Path:
    """Write a whole records folder, less the tables named in ``without``; returns ``folder``.

    ``controls`` adds what ``depth=full`` has beside the methods that are compared.
    """
    maker = Maker(seeds, texts, scored)
    for model in (SOURCE, TARGET):
        learned = ["ramp_paper", "ramp"] if model == SOURCE else ["role_depth_transfer", "ramp_transfer"]
        methods = ["knapsack", "random_search", *learned]
        maker.row(model, "float", 16, 0)
        maker.row(model, "released", 4, 0)
        for method in ("rtn", "gptq", "awq", "awq_gptq"):
            for bits in (3, 4) if model == SOURCE else (4,):
                maker.row(model, method, bits, 0)
        for method in methods:
            for bits in (3.65, 4.0) if model == SOURCE else (3.65,):
                for seed in seeds if method != "knapsack" else (0,):
                    maker.row(model, method, bits, seed)
    maker.row(SOURCE, "ramp", 4.6, 0, grid="ggml")
    if packages:
        maker.packages()
    if controls:
        maker.controls(SOURCE)
    if skipped:
        maker.skipped()
    maker.activations(SOURCE)
    tables = maker.tables | {
        "transfer": [
            {"source": SOURCE, "target": TARGET, "budget_bits": 3.65, "policy": policy, "seed": seed, "text": "heldout"}
            | {"gap_closed": gap, "ci_low": gap - 0.3, "ci_high": gap + 0.3, "kl_transfer": 0.28, "kl_random": 0.31}
            | {"kl_knapsack": 0.24, "n_windows": WINDOWS}
            for policy, gap in (("role_depth", 0.1), ("ramp", 0.8))
            for seed in seeds
        ],
        "halo": [
            {"file": "ramp-b4.6-s0.gguf", "check": "types_differ", "value": 0.0, "limit": 0.0, "ok": True},
            {"file": "ramp-b4.6-s0.gguf", "check": "perplexity_difference", "value": 0.012, "limit": 0.03, "ok": True},
        ],
    }
    for name, rows in tables.items():
        if name not in without:
            write_table(folder / f"{name}.csv", rows)
    return folder


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Write tables beside those of a records folder; return ``folder``."""
    for name, rows in tables.items():
        write_table(folder / f"{name}.csv", rows)
    return folder


def write_study(results: Path) -> Path:
    """Write the results folder of a finished study; return it."""
    write_records(results / "records")
    write_json(results / "records" / "claims.json", [])
    write_json(results / "config.json", {"study": "synthetic"})
    return results


@cache
def _frames(**options: Any) -> dict[str, pd.DataFrame]:
    with TemporaryDirectory() as folder:
        return read_all(write_records(Path(folder), **options))


def synthetic_study(tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None, **options: Any) -> Study:
    """Return the study of ``write_records(**options)`` with ``tables`` in place of its own."""
    frames = {name: frame.copy() for name, frame in _frames(**options).items()}
    with TemporaryDirectory() as folder:
        write_tables(Path(folder), tables or {})
        return Study(frames | {name: read_table(Path(folder) / f"{name}.csv") for name in tables or {}})


def cells(table: Any, **chosen: Any) -> dict[str, Any]:
    """Return the cells of the one row of a table that has these values."""
    [found] = [row.cells for row in table.rows if all(row.cells.get(key) == value for key, value in chosen.items())]
    return dict(found)
