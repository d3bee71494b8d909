"""Origin of a table of the records: file, command, commits, and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper.publish import MANIFEST, OF_OTHERS, commits_of
from paper.study import Study
from ramp.core.atomic_files import read_json
from ramp.records.schema import TABLES
from ramp.study.record_files import ASKED_TABLES, SECTION_TABLES

UNKNOWN = "not recorded"
CLAIMS = "claims.json"


@dataclass(frozen=True)
class Origin:
    """The folder of the records as the page links to it, and the commands behind its tables."""

    link: str  # the folder, relative to the page
    command: str  # of the study
    commits: tuple[str, ...]
    note: str
    also: Mapping[str, Mapping[str, Any]]  # table -> its entry in the manifest, where another study made it
    own_commits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # table -> those that its lines name
    results: str = ""  # folder of the results of a run that is not published: rows have a command of their own

    @classmethod
    def of(cls, records: Path, study: Study, link: str) -> Origin:
        """Return the origin of a folder of records: its manifest's where it is published, else that of its run."""
        commits = tuple(sorted({*commits_of(study.frames["records"]), *commits_of(study.frame("banks"))}))
        if (records / MANIFEST).is_file():
            found = read_json(records / MANIFEST, dict[str, Any])
            also = {Path(name).stem: entry for entry in found["also"] for name in entry["tables"]}
            own = {name: sorted(commits_of(frame)) for name, frame in study.frames.items() if "commit" in frame}
            return cls(link, found["command"], tuple(found["commits"]), found["note"], also, own)
        config = records.parent / "config.json"
        if not config.is_file():
            return cls(link, UNKNOWN, commits, "", {})
        results = str(read_json(config, dict[str, Any]).get("results", records.parent))
        command = f"snakemake --cores all --configfile {results}/config.json"
        return cls(link, command, commits, "", {}, results=results)

    def about(self, table: str) -> dict[str, Any]:
        """Return file, command, commits and note of a table."""
        entry = self.also.get(table) or self._apart(table)
        return {
            "file": f"{self.link}/{TABLES[table].file if table in TABLES else CLAIMS}",
            "command": entry.get("command") or self._command(table),
            "commits": list(entry.get("commits", self.commits)),
            "note": entry.get("note", self.note),
        }

    def _apart(self, table: str) -> Mapping[str, Any]:
        """Return the entry of a table that no study makes: its command, and the commits that its lines name."""
        command = OF_OTHERS.get(f"{table}.csv")
        if command is None or self.results or self.command == UNKNOWN:
            return {}
        return {"command": command, "commits": self.own_commits.get(table, ()), "note": ""}

    def _command(self, table: str) -> str:
        if self.command == UNKNOWN:
            return UNKNOWN
        sections = [name for name, tables in SECTION_TABLES.items() if table in tables]
        target = [*sections, *([table] if table in ASKED_TABLES else [])]
        return " ".join([*self.command.split(" --configfile")[:1], *target, *self._config()])

    def _config(self) -> list[str]:
        _, flag, file = self.command.partition(" --configfile")
        return [f"--configfile{file}"] if flag else []

    def of_row(self, file: str) -> str:
        """Return the command that makes one file of the results, ``metrics/m/r.json``; the study's if published."""
        if not self.results:
            return self.command
        return f"snakemake --cores all {self.results}/{file} --configfile {self.results}/config.json"
