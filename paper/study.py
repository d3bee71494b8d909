"""The records of one study as tables, figures and claims read them: rows gathered over seeds, windows, items."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paper.intervals import exponential, mean_interval
from paper.naming import (
    RAMP_METHODS,
    STATIC_MIXES,
    UNIFORM_METHODS,
    bits_title,
    method_rank,
    method_title,
    text_title,
)
from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.evaluation.bootstrap import Estimate
from ramp.methods.names import UNQUANTIZED
from ramp.records.table import instances, read_all, read_claims

if TYPE_CHECKING:
    import pandas as pd

ENTRY = ("model", "method", "grid", "stage", "budget_bits", "group_size", "fold")
"""The record key without study and seed: it names one line of a table."""

SEEDS = "-s"
"""Stands between the name of a row and its seeds."""

ALLOCATED = ("model", "method", "grid", "budget_bits")
"""Fields that name an allocation."""


@dataclass(frozen=True)
class Entry:
    """One line of a table: a method at a budget on a model, with one record per seed."""

    model: str
    method: str
    grid: str
    stage: str
    budget_bits: float
    group_size: int
    fold: str
    records: Any  # pandas.DataFrame, one row per seed, sorted by seed
    published: bool = False  # of the published records, not of this run

    @property
    def restored(self) -> bool:
        """Return whether this is a final row once more, with embedding and head in another track than the study's."""
        return self.stage.startswith("final_")

    @property
    def track(self) -> str:
        """Return how embedding and head are stored: q8_0, fp16, or nothing known."""
        return str(self.records["track"].iloc[0]) if "track" in self.records else ""

    @property
    def title(self) -> str:
        """Method and budget in words."""
        if not self.is_quantized or self.method in STATIC_MIXES:
            return method_title(self.method)
        grid = " on the ggml grid" if self.grid == "ggml" else ""
        grid += f", {self.track} track" if self.restored else ""
        return f"{method_title(self.method)}, {bits_title(self.budget_bits)} bits{grid}"

    @property
    def is_quantized(self) -> bool:
        """Return whether the row is anything but the float model or the released file."""
        return self.method not in UNQUANTIZED

    @property
    def is_uniform(self) -> bool:
        """Return whether every linear has one width: our own uniform methods, a user's, and those of other packages."""
        return self.method in UNIFORM_METHODS or bool(self._values("kind") & {"uniform", "package"})

    @property
    def is_external(self) -> bool:
        """Return whether another package quantized the row."""
        return "package" in self._values("kind")

    @property
    def searched(self) -> bool:
        """Return whether the allocation is what a search that draws random numbers ended with."""
        return bool(self._values("kind") & {"best", "policy"})

    @property
    def not_run(self) -> bool:
        """Return whether the row's package could not run: it has no sizes and no scores, and its note says why."""
        return "not run" in self._values("produced")

    def _values(self, column: str) -> set[str]:
        return {str(value) for value in self.records[column]} if column in self.records else set()

    @property
    def row(self) -> str:
        """Name of the row as claims.json lists it."""
        return self.line + SEEDS + ",".join(str(seed) for seed in self.records["seed"])

    @property
    def line(self) -> str:
        """Name of the row without its seeds."""
        grid = "-ggml" if self.grid == "ggml" else f"-{self.track}" if self.restored else ""
        return f"{self.model}/{self.method}-b{bits_title(self.budget_bits)}{grid}"

    def scored(self, column: str) -> Entry:
        """Return the same line with only the seeds that have a value in a column."""
        return replace(self, records=self.records[self.records[column].notna()]) if column in self.records else self

    def mean(self, column: str) -> float | None:
        """Return the mean over seeds of a column; None where it is absent or empty."""
        if column not in self.records:
            return None
        values = self.records[column].astype("float64").dropna()
        return float(values.mean()) if len(values) else None

    @property
    def note(self) -> str:
        """The notes of the records, each once."""
        notes = [str(note) for note in self.records["note"]] if "note" in self.records else []
        return "; ".join(dict.fromkeys(note for note in notes if note))


class Study:
    """The records of a study: the only thing that tables, figures, claims and text read."""

    def __init__(
        self, frames: dict[str, pd.DataFrame], claims: list[dict[str, Any]] | None = None, where: str = "the records"
    ) -> None:
        self.frames = frames
        self.claims = claims
        self.manifest: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self._groups: dict[tuple[str, ...], dict[Any, np.ndarray]] = {}
        self._sums: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray, np.ndarray] | None] = {}
        if "records" not in frames or frames["records"].empty:
            raise RampError(f"{where}: no rows in records.csv: run the study first, or point --records elsewhere")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Study:
        """Return the study that a command line names."""
        return cls.read(args.records, args.claims or args.records / "claims.json")

    @classmethod
    def read(cls, folder: str | Path, claims: str | Path | None = None) -> Study:
        """Read a records folder, its manifest where it is published, and the file ``claims`` where there is one.

        The study's configuration lies beside published tables, and above the folder of a run.
        """
        judged = read_claims(claims) if claims and Path(claims).is_file() else None
        study = cls(read_all(folder), judged, str(folder))
        places = (Path(folder) / "config.json", Path(folder).resolve().parent / "config.json")
        if config := next((path for path in places if path.is_file()), None):
            study.config = read_json(config, dict[str, Any])
        if (manifest := Path(folder) / "manifest.json").is_file():
            study.manifest = read_json(manifest, dict[str, Any])
        return study

    def frame(self, name: str) -> pd.DataFrame | None:
        """Return a table of the records, or None where it is absent or has no rows."""
        frame = self.frames.get(name)
        return None if frame is None or frame.empty else frame

    @cached_property
    def name(self) -> str:
        """Name of the study."""
        return str(self.frames["records"]["study"].iloc[0])

    @cached_property
    def entries(self) -> list[Entry]:
        """All lines, by model, stage and grid, method and budget, in table order."""
        found = []
        for key, rows in self.frames["records"].groupby(list(ENTRY), sort=True):
            values = dict(zip(ENTRY, key, strict=True))
            values["group_size"] = int(values["group_size"])
            found.append(Entry(**values, records=rows.sort_values("seed")))
        return sorted(
            found, key=lambda e: (self._model_rank(e.model), e.grid == "ggml", method_rank(e.method), e.budget_bits)
        )

    def _model_rank(self, model: str) -> tuple[bool, str]:
        return (model != self.source, model)

    @cached_property
    def models(self) -> list[str]:
        """The models, the source first."""
        return sorted({str(model) for model in self.frames["records"]["model"]}, key=self._model_rank)

    @cached_property
    def source(self) -> str:
        """The model on which the policy was trained: the transfer's source, else the one that was searched."""
        transfer = self.frame("transfer")
        if transfer is not None:
            return str(transfer["source"].iloc[0])
        records = self.frames["records"]
        searched = records[records["method"].isin(RAMP_METHODS)]
        return str((records if searched.empty else searched)["model"].value_counts().index[0])

    @cached_property
    def ran_ramp(self) -> bool:
        """Return whether the source model was searched by RAMP: only then are the paper's claims spoken of."""
        entries = [entry for method in RAMP_METHODS for entry in self.find(self.source, method)]
        return any(entry.mean("bytes_linear") and not entry.not_run for entry in entries)

    @cached_property
    def texts(self) -> list[str]:
        """The evaluated texts, held-out first."""
        return sorted(instances(self.frames["records"].columns, "text"), key=lambda text: (text != "heldout", text))

    @cached_property
    def tasks(self) -> list[str]:
        """The commonsense tasks that were scored."""
        return instances(self.frames["records"].columns, "task")

    @cached_property
    def primary_text(self) -> str:
        """The text that claims are judged on: WikiText-2 on the paper's own model, else held-out text or the first."""
        if self.is_paper_model(self.source) and "wikitext2" in self.texts:
            return "wikitext2"
        return self.texts[0] if self.texts and "heldout" not in self.texts else "heldout"

    @staticmethod
    def is_paper_model(model: str) -> bool:
        """Return whether a model is Llama-2-7B, on which the paper states its results."""
        return model == "llama-2-7b"

    def find(
        self,
        model: str,
        method: str | None = None,
        bits: float | None = None,
        *,
        grid: str | None = "affine",
        stage: str | None = "final",
    ) -> list[Entry]:
        """Return the entries of a model that match; ``None`` leaves a field free. Rows from the bank are not final."""
        return [
            entry
            for entry in self.entries
            if entry.model == model
            and (method is None or entry.method == method)
            and (bits is None or abs(entry.budget_bits - bits) < 1e-9)
            and (grid is None or entry.grid == grid)
            and (stage is None or entry.stage == stage)
        ]

    def external_entries(self, model: str, other: Study) -> list[Entry]:
        """Return the rows of packages on ``model`` in ``other``, this study as published, that this run lacks."""
        if other.name != self.name:
            return []
        own = {(entry.method, entry.budget_bits) for entry in self.find(model, grid=None)}
        found = [entry for entry in other.find(model, grid=None) if entry.is_external]
        return [replace(e, published=True) for e in found if (e.method, e.budget_bits) not in own]

    def one(self, model: str, method: str, bits: float | None = None, **free: Any) -> Entry | None:
        """Return the first entry that matches, or None."""
        found = self.find(model, method, bits, **free)
        return found[0] if found else None

    def float_entry(self, model: str) -> Entry | None:
        """Return the float reference of a model."""
        return self.one(model, "float", grid=None, stage=None)

    def float_title(self, model: str) -> str:
        """Return the float reference in words; a de-quantized released file is never called FP16."""
        entry = self.float_entry(model)
        clauses = [clause.strip() for clause in entry.note.split(";")] if entry else []
        for clause in clauses:
            if "de-quantized" in clause:
                return clause
        if self.one(model, "released", grid=None, stage=None):
            return "released checkpoint, de-quantized"
        trained = [clause for clause in clauses if clause.startswith("trained")]
        return f"float ({trained[0]})" if trained else "float checkpoint"

    def rows_of(self, entry: Entry, table: str, fields: Sequence[str] = ENTRY, **more: str) -> pd.DataFrame | None:
        """Return the rows of a table with an entry's values in ``fields`` and those of ``more``; None without any."""
        frame = self.frame(table)
        if frame is None:
            return None
        names = (*fields, *more)
        if (table, *names) not in self._groups:
            self._groups[table, *names] = frame.groupby(list(names)).indices
        found = self._groups[table, *names].get((*(getattr(entry, name) for name in fields), *more.values()))
        return None if found is None else frame.iloc[found]

    def sums(self, entry: Entry, text: str, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return window sums of ``nll`` or ``kl``: values [seeds, windows], tokens [windows], numbers [windows]."""
        key = (*(getattr(entry, name) for name in ENTRY), text, what)
        if key not in self._sums:
            self._sums[key] = self._read_sums(entry, text, what)
        return self._sums[key]

    def _read_sums(self, entry: Entry, text: str, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        part = self.rows_of(entry, "windows", text=text)
        if part is None:
            return None
        table = part.pivot(index="seed", columns="window", values=what).dropna(axis=1).astype("float64")
        if table.empty:
            return None
        tokens = part.groupby("window")["tokens"].first().loc[table.columns].to_numpy("float64")
        return table.to_numpy(), tokens, table.columns.to_numpy("int64")

    def measured(self, entry: Entry, text: str, what: str) -> Estimate | None:
        """Return perplexity (``ppl``) or ``kl`` with its interval: as recorded of one seed, also over several seeds."""
        value = entry.mean(f"{what}_{text}")
        if value is None:
            return None
        sums = self.sums(entry, text, "nll" if what == "ppl" else "kl") if len(entry.records) > 1 else None
        if sums is not None:
            estimate = mean_interval(sums[0], sums[1])
            return exponential(estimate) if what == "ppl" else estimate
        return Estimate(value, entry.mean(f"{what}_low_{text}"), entry.mean(f"{what}_high_{text}"))

    def limits(self, entries: Iterable[Entry], text: str) -> str:
        """Return how much text the numbers of these entries rest on, for a caption."""
        found = set()
        for entry in entries:
            windows, length = entry.mean(f"n_windows_{text}"), entry.mean(f"length_{text}")
            if windows and length:
                found.add((int(windows), int(length)))
        sizes = [f"{windows} windows of {length:,} tokens" for windows, length in sorted(found)]
        return f"{' or '.join(sizes)} of {text_title(text)}" if sizes else f"{text_title(text)}, windows not recorded"

    @staticmethod
    def seeds(entries: Iterable[Entry]) -> str:
        """Return how many seeds the quantized rows among these entries have, for a caption."""
        counts = sorted({len(entry.records) for entry in entries if entry.is_quantized})
        if not counts:
            return "no seeds"
        return "1 seed" if counts == [1] else f"{' or '.join(str(count) for count in counts)} seeds"
