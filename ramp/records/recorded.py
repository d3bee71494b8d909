"""One side of a comparison: what a results folder, or a folder of records, holds of its studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.errors import RampError
from ramp.records.study_digests import FILE, StudyDigests, read_digests
from ramp.records.table import read_claims, read_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recorded:
    """Tables, claims and digests of one folder; what it does not have is None or empty."""

    folder: Path
    records: pd.DataFrame | None
    banks: pd.DataFrame | None  # final rows repeated over banks
    claims: list[dict[str, Any]] | None
    digests: dict[str, StudyDigests]

    @classmethod
    def read(cls, folder: Path) -> Recorded:
        """Read a results folder or a folder of records.

        Raises:
            RampError: no such folder, nothing recorded in it, a table or file that is damaged.
        """
        if not folder.is_dir():
            raise RampError(f"no folder {folder}: name a results folder, or a folder of records")
        place = folder / "records" if (folder / "records").is_dir() else folder
        found = {name: place / name for name in ("records.csv", "banks.csv", "claims.json", FILE)}
        there = {name: path for name, path in found.items() if path.is_file()}
        if "records.csv" not in there and FILE not in there:
            raise RampError(f"{place} holds neither records.csv nor {FILE}: finish the study, or name another folder")
        return cls(
            folder,
            read_table(there["records.csv"]) if "records.csv" in there else None,
            read_table(there["banks.csv"]) if "banks.csv" in there else None,
            read_claims(there["claims.json"]) if "claims.json" in there else None,
            read_digests(there[FILE]) if FILE in there else {},
        )

    @property
    def studies(self) -> set[str]:
        """Names of the studies of its rows."""
        return set() if self.records is None else set(self.records["study"])

    def machine(self, study: str) -> str:
        """Return the machine of a study in words, or the processors that its records name."""
        if study in self.digests:
            return str(self.digests[study].machine)
        if self.records is None:
            return "unknown"
        named = self.records.loc[self.records["study"] == study, "hardware"]
        return ", ".join(sorted({str(name) for name in named if name})) or "unknown"
