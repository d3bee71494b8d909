"""Files of the records, and how a rule takes each: made again where needed, or as it is.

Snakemake looks for no producer of a file that is taken as it is, so that nothing before it is planned: records for
someone who asks for drawings alone, tables of comparisons and of leagues that the study does not make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import read_json
from ramp.study.config import Study

RECORD_TABLES = ("records", "windows", "items", "allocations", "episodes", "activations", "transfer", "halo")
"""Tables that every study collects (ramp/records/table.py)."""
COMPARED_TABLES = ("benchmarks", "parity")
"""Tables that no study makes, only `snakemake benchmarks` and `snakemake parity` (benchmarks/plan.py)."""
ASKED_TABLES = (*COMPARED_TABLES, "entropy")
"""These, and what `snakemake entropy` reads from the rows of a study: drawn where they are there."""
SECTION_TABLES = {
    "league": ("league", "league_windows", "league_curves", "league_banks"),
    "optimum": ("optimum", "additivity"),
    "fold_ablation": ("folding", "folding_windows"),
    "banks": ("banks", "banks_windows"),
    "tuning": ("tuning", "tuning_windows"),
    "gguf": ("gguf", "gguf_checks"),
    "noise": ("noise",),
    "leakage": ("leakage", "leakage_windows"),
}
"""Tables of a study that has a section, by the section."""
DRAWINGS = ("figures", "tables", "paper", "page")
"""Targets that are drawn from the records."""

Taken = tuple[str, bool]
"""A file, and whether it is taken as it is."""


@dataclass(frozen=True)
class RecordFiles:
    """The records of one call of Snakemake."""

    study: Study
    folder: str  # R/records, or the published records
    published_folder: str  # records that came with the project
    asked: Callable[[], Collection[str]]  # targets of the command line, known once rules are read

    @property
    def draws_only(self) -> bool:
        """Return whether drawings alone were asked for, and the records that they are drawn from are there."""
        targets = self.asked()
        own = (f"{self.study.results}/paper/", f"{self.study.results}/index.html")
        drawings = all(each in DRAWINGS or each.startswith(own) for each in targets)
        return bool(targets) and drawings and Path(self.folder, "claims.json").is_file()

    @property
    def own(self) -> list[str]:
        """Names of the tables that this study makes: its rows', and those of the sections that wait for no request."""
        more = [name for section in self._sections(waiting=False) for name in SECTION_TABLES[section]]
        return [*RECORD_TABLES, *more]

    def _sections(self, waiting: bool) -> list[str]:
        """Return the sections with models, where they name them: those that wait for a request, or the others."""
        found = {name: getattr(self.study, name) for name in ([] if self.study.records else SECTION_TABLES)}
        return [
            name
            for name, section in found.items()
            if section is not None
            and getattr(section, "models", True)
            and getattr(section, "on_request", False) == waiting
        ]

    @property
    def collected(self) -> list[str]:
        """The tables that this study makes, as files."""
        return [f"{self.folder}/{name}.csv" for name in self.own]

    @property
    def kept(self) -> list[str]:
        """Every file of the records that a finished study has."""
        digests = f"{self.folder}/digests.json"  # published records may be older than digests are
        without = self.study.records == "published" and not Path(digests).is_file()
        return [*self.collected, f"{self.folder}/claims.json", *([] if without else [digests])]

    @cached_property
    def compared(self) -> list[str]:
        """Published files that this study is compared with: its records, or its digests alone."""
        if self.study.records == "published":
            return []
        folder = Path(self.published_folder)
        config, digests = folder / "config.json", folder / "digests.json"
        if config.is_file() and read_json(config, dict[str, Any]).get("study") == self.study.study:
            tables = ("records.csv", "banks.csv", "gguf.csv", "league.csv", "tuning.csv")
            names = (*tables, "claims.json", "digests.json")
            return [f"{self.published_folder}/{name}" for name in names if (folder / name).is_file()]
        known = digests.is_file() and self.study.study in read_json(digests, dict[str, Any])
        return [f"{self.published_folder}/digests.json"] if known else []

    @property
    def comparison(self) -> list[str]:
        """The comparison with published records, where they are of this study."""
        return [f"{self.study.results}/compare.md"] if self.compared else []

    def comparison_asked(self) -> bool:
        """Return whether the command line asks for the comparison: by itself, or with everything."""
        asked = set(self.asked())
        return bool(self.comparison) and (not asked or bool(asked & {"all", "compare", *self.comparison}))

    def table(self, name: str) -> Taken:
        """Return one file of the records of the study's rows: a table, or ``claims.json``."""
        return f"{self.folder}/{name}", self.draws_only

    def claims(self) -> list[Taken]:
        """Return the verdicts on the claims."""
        return [self.table("claims.json")]

    def tables(self) -> list[Taken]:
        """Return all tables that a reader's tables, figures and paper are drawn from."""
        found = [self.table(f"{name}.csv") for name in RECORD_TABLES]
        asked = set(self.asked())
        requested = [name for each in self._sections(waiting=True) if each in asked for name in SECTION_TABLES[each]]
        made = {*([] if self.draws_only else self.own), *(set(ASKED_TABLES) & asked), *requested}
        for name in (*ASKED_TABLES, *chain.from_iterable(SECTION_TABLES.values())):
            file = f"{self.folder}/{name}.csv"
            if name in made or Path(file).is_file():
                found.append((file, name not in made))
        return found

    def published(self) -> list[str]:
        """Return published records, whose rows of packages are in the tables of a study that does not run them."""
        ran = self.study.runs_packages or self.study.records == "published"
        names = [] if ran else ["records.csv", "windows.csv", "config.json"]
        return [file for name in names if Path(file := f"{self.published_folder}/{name}").is_file()]
