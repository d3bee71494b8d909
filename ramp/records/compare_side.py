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
class Held:
    """Part of a comparison on a table beside the records: one measure a row, by the row's own interval."""

    measure: str
    interval: tuple[str, str]  # columns of its ends
    alike: tuple[str, ...] = ()  # columns in which two rows agree, or are not compared
    windows_known: bool = True  # False: the table does not say on how much text the interval rests


HELD = {
    "banks": Held("kl", ("kl_low", "kl_high"), ("n_windows", "length", "dtype")),
    "league": Held("kl_held", ("ci_low", "ci_high")),  # its key names the bank and its held-out text
    "gguf": Held("kl", ("kl_low", "kl_high"), windows_known=False),
    "tuning": Held("ratio", ("ratio_low", "ratio_high"), ("n_windows", "length", "dtype", "steps")),
}
"""Tables that are compared beside the records, paired by their unique columns (``ramp.records.schema.TABLES``)."""


@dataclass(frozen=True)
class Recorded:
    """Tables, claims and digests of one folder; what it does not have is None or empty."""

    folder: Path
    records: pd.DataFrame | None
    others: dict[str, pd.DataFrame]  # those of ``HELD`` that are there, by name
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
        tables = {name: place / f"{name}.csv" for name in HELD}
        found = {name: place / name for name in ("records.csv", "claims.json", FILE)}
        there = {name: path for name, path in found.items() if path.is_file()}
        others = {name: read_table(path) for name, path in tables.items() if path.is_file()}
        if "records.csv" not in there and FILE not in there:
            raise RampError(f"{place} holds neither records.csv nor {FILE}: finish the study, or name another folder")
        return cls(
            folder,
            read_table(there["records.csv"]) if "records.csv" in there else None,
            others,
            read_claims(there["claims.json"]) if "claims.json" in there else None,
            read_digests(there[FILE]) if FILE in there else {},
        )

    @property
    def banks(self) -> pd.DataFrame | None:
        """Final rows repeated over banks."""
        return self.others.get("banks")

    @property
    def studies(self) -> set[str]:
        """Names of the studies of its rows."""
        return set() if self.records is None else set(self.records["study"])

    def machine(self, study: str) -> str:
        """Return the machine of a study in words, or the processors that its records name.

        Digests of another run of the study (of another depth, say) do not tell the machine of these records.
        """
        rows = None if self.records is None else self.records.loc[self.records["study"] == study]
        digests = self.digests.get(study)
        if digests and (rows is None or rows.empty or digests.config_hash in ("", *rows["config_hash"])):
            return str(digests.machine)
        named = [] if rows is None else rows["hardware"]
        return ", ".join(sorted({str(name) for name in named if name})) or "unknown"
