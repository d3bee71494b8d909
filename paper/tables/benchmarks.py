"""Tables of ours and other implementations: speed and memory (benchmarks.csv), and error and KL (parity.csv)."""

from __future__ import annotations

from typing import Any

from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, finite_or_none, labels

DIGITS = 4
"""Significant digits of a measure that is not in bytes."""

EXTRAPOLATED = "extrapolated"
"""Begins the note of a line whose reference is its own measurement (``benchmarks.memory``): it compares nothing."""


def benchmarks_table(study: Study) -> Table:
    """Return a line per benchmark, and the commands that made them below."""
    frame = study.frame("benchmarks")
    every = [] if frame is None else frame.to_dict("records")
    lines = [line for line in every if not str(line["note"]).startswith(EXTRAPOLATED)]
    marks = Marks()
    rows = tuple(
        Row(
            {
                "benchmark": line["benchmark"] + marks.of(line["note"]),
                "ours": measure(line["ours"], line["unit"]),
                "reference": measure(line["reference"], line["unit"]),
                "ratio": finite_or_none(line["ratio"]),
                "unit": "MB" if line["unit"] == "bytes" else line["unit"],
            },
            line["command"],
        )
        for line in sorted(lines, key=lambda line: (line["command"], line["benchmark"]))
    )
    columns = (
        Column("benchmark", "what", align="left", width="1fr"),
        Column("ours", "ours"),
        Column("reference", "reference"),
        Column("ratio", "ratio", digits=3),
        *labels("unit"),
    )
    words = caption("benchmarks", *marks.footnotes())
    return Table("benchmarks", columns=columns, rows=rows, aside=commands(lines), **words)


def parity_table(study: Study) -> Table:
    """Return a line per method, package, model and grid; runs with other settings, to find causes, below their pair."""
    frame = study.frame("parity")
    lines = [] if frame is None else frame.to_dict("records")
    marks = Marks()
    rows = tuple(
        Row(
            {
                "method": method_title(line["method"]),
                "reference": line["reference"] + marks.of(line["note"]),
                "model": model_title(line["model"]),
                "bits": str(line["bits"]),
                "group": str(line["group_size"]),
                "grid": "symmetric" if line["symmetric"] else "asymmetric",
                "settings": line["settings"],
                "measure": line["error_measure"],
                "error": finite_or_none(line["error_ratio"]),
                "ours": finite_or_none(line["kl_ours"]),
                "theirs": finite_or_none(line["kl_reference"]),
                "ratio": finite_or_none(line["ratio"]),
            },
            f"{line['method']} {line['reference']} {line['model']}",
        )
        for line in lines
    )
    columns = (
        *labels("method"),
        Column("reference", "package", align="left"),
        *labels("model"),
        Column("bits", "bits"),
        Column("group", "group"),
        *labels("grid"),
        Column("settings", "settings", align="left", width="1fr"),
        Column("measure", "error of", align="left"),
        Column("error", "error ratio", digits=3),
        Column("ours", "KL ours", "nats", digits=4),
        Column("theirs", "KL package", "nats", digits=4),
        Column("ratio", "KL ratio", digits=3),
    )
    words = caption("parity", *marks.footnotes())
    return Table("parity", columns=columns, rows=rows, aside=commands(lines), **words)


class Marks:
    """Footnote marks: one number per distinct note, in order of appearance."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def of(self, note: Any) -> str:
        """Return the mark of a line with this note; nothing without one."""
        if not isinstance(note, str) or not note:
            return ""
        if note not in self._notes:
            self._notes.append(note)
        return f" †{self._notes.index(note) + 1}"

    def footnotes(self) -> tuple[str, ...]:
        """Return the notes under their marks."""
        return tuple(f"†{number} {note}" for number, note in enumerate(self._notes, start=1))


def commands(lines: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return one footnote with each distinct command."""
    distinct = sorted({str(line["command"]) for line in lines if line["command"]})
    return (f"Made by: {'; '.join(distinct)}.",) if distinct else ()


def measure(value: Any, unit: str) -> str | None:
    """Return a measure in words: bytes in MB, others to four digits."""
    found = finite_or_none(value)
    if found is None:
        return None
    if unit == "bytes":
        return f"{found / 1e6:,.1f}"
    return f"{found:,.0f}" if abs(found) >= 10**DIGITS else f"{found:.{DIGITS}g}"
