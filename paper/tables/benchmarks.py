"""Ours beside other implementations: speed and memory (benchmarks.csv), and error and KL (parity.csv)."""

from __future__ import annotations

import math
from typing import Any

from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table

DIGITS = 4
"""Digits of a measure that may be a fraction of a second or some billion bytes."""


def benchmarks_table(study: Study) -> Table:
    """One line per benchmark, and the commands that made them below."""
    frame = study.frame("benchmarks")
    lines = [] if frame is None else frame.to_dict("records")
    marks = Marks()
    rows = tuple(
        Row(
            {
                "benchmark": line["benchmark"] + marks.of(line["note"]),
                "ours": measure(line["ours"], line["unit"]),
                "reference": measure(line["reference"], line["unit"]),
                "ratio": number_or_none(line["ratio"]),
                "unit": shown_unit(line["unit"]),
            },
            line["command"],
        )
        for line in sorted(lines, key=lambda line: (line["command"], line["benchmark"]))
    )
    return Table(
        name="benchmarks",
        title="Speed, memory and bytes beside a reference, measured by turns in one run each. Ratios are the result; "
        "the measures beside them belong to one machine.",
        columns=(
            Column("benchmark", "what", align="left", width="1fr"),
            Column("ours", "ours"),
            Column("reference", "reference"),
            Column("ratio", "ratio", digits=3),
            Column("unit", "unit", align="left"),
        ),
        rows=rows,
        footnotes=(*marks.footnotes(), *commands(lines)) if lines else (),
        absent="No benchmark is in these records (snakemake benchmarks).",
    )


def parity_table(study: Study) -> Table:
    """One line per method, package, model and grid; runs with other settings, which seek causes, below their pair."""
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
                "error": number_or_none(line["error_ratio"]),
                "ours": number_or_none(line["kl_ours"]),
                "theirs": number_or_none(line["kl_reference"]),
                "ratio": number_or_none(line["ratio"]),
            },
            f"{line['method']} {line['reference']} {line['model']}",
        )
        for line in lines
    )
    return Table(
        name="parity",
        title="Our quantizers beside the field's packages on the same model, windows, width, groups and grid. Error "
        "ratio: ours over the package's, of linears or of whole blocks on float inputs. Below 1 ours is nearer to the "
        "float model.",
        columns=(
            Column("method", "method", align="left"),
            Column("reference", "package", align="left"),
            Column("model", "model", align="left"),
            Column("bits", "bits"),
            Column("group", "group"),
            Column("grid", "grid", align="left"),
            Column("settings", "settings", align="left", width="1fr"),
            Column("measure", "error of", align="left"),
            Column("error", "error ratio", digits=3),
            Column("ours", "KL ours", "nats", digits=4),
            Column("theirs", "KL package", "nats", digits=4),
            Column("ratio", "KL ratio", digits=3),
        ),
        rows=rows,
        footnotes=(*marks.footnotes(), *commands(lines)) if lines else (),
        absent="No comparison with a package is in these records (snakemake parity).",
    )


class Marks:
    """Daggers: one number per distinct note, in order of appearance."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def of(self, note: Any) -> str:
        """What stands behind a line with this note; nothing without one."""
        if not isinstance(note, str) or not note:
            return ""
        if note not in self._notes:
            self._notes.append(note)
        return f" †{self._notes.index(note) + 1}"

    def footnotes(self) -> tuple[str, ...]:
        """The notes under their marks."""
        return tuple(f"†{number} {note}" for number, note in enumerate(self._notes, start=1))


def commands(lines: list[dict[str, Any]]) -> tuple[str, ...]:
    """One footnote with each distinct command."""
    distinct = sorted({str(line["command"]) for line in lines if line["command"]})
    return (f"Made by: {'; '.join(distinct)}.",) if distinct else ()


def number_or_none(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and not math.isnan(float(value)) else None


def measure(value: Any, unit: str) -> str | None:
    """A measure as it is read: bytes in MB, others to four digits."""
    found = number_or_none(value)
    if found is None:
        return None
    if unit == "bytes":
        return f"{found / 1e6:,.1f}"
    return f"{found:,.0f}" if abs(found) >= 10**DIGITS else f"{found:.{DIGITS}g}"


def shown_unit(unit: str) -> str:
    """The unit that ``measure`` shows."""
    return "MB" if unit == "bytes" else unit
