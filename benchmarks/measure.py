"""Harness of all benchmarks: two things measured in alternation, medians, their ratio, one JSON piece.

A piece is ``{"table": "benchmarks" | "parity", "rows": [...], "detail": {...}}``. ``rows`` have the columns of that
table (``ramp/records/schema.py``); ``detail`` holds every single measurement behind a median, and the versions.
``benchmarks.records`` merges pieces into the tables.

Times are processor seconds of the whole process, all threads: on a machine that others use they vary far less than the
clock on the wall, which is kept in ``detail``. Times of one run are compared with each other and with nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ramp.core import cli, provenance
from ramp.core.atomic_files import write_json
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile


class BenchmarkError(RampError):
    """A benchmark that cannot run here, or pieces that do not fit together."""


@dataclass(frozen=True)
class Sample:
    """One measurement."""

    cpu_s: float  # processor seconds, all threads of the process that did the work
    wall_s: float
    value: Any = None  # what the work gave


def timed(work: Callable[[], Any]) -> Sample:
    """Run ``work`` once in this process."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    value = work()
    return Sample(time.process_time() - cpu, time.perf_counter() - wall, value)


def alternate(
    ours: Callable[[], Sample], reference: Callable[[], Sample], repeats: int
) -> tuple[list[Sample], list[Sample]]:
    """Measure ``repeats`` of each in alternation; the first side changes every time, so that neither is favoured."""
    if repeats < 1:
        raise BenchmarkError(f"{repeats} repeats measure nothing: give at least 1")
    found: tuple[list[Sample], list[Sample]] = ([], [])
    for turn in range(repeats):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            found[which].append((ours, reference)[which]())
    return found


def median(samples: Sequence[Sample], key: str = "cpu_s") -> float:
    """Return the median of one field over samples."""
    return statistics.median(getattr(sample, key) for sample in samples)


def ratio(ours: float, reference: float) -> float | None:
    """Return ours / reference; None where the reference is 0."""
    return ours / reference if reference else None


def row(
    benchmark: str, ours: float, reference: float | None, unit: str, command: str, note: str = ""
) -> dict[str, Any]:
    """Return a row of benchmarks.csv; without a reference there is no ratio."""
    quotient = None if reference is None else ratio(ours, reference)
    return {
        "benchmark": benchmark, "ours": ours, "reference": reference, "ratio": quotient, "unit": unit,
        "command": command, "note": note,
    }  # fmt: skip


def compared(
    name: str, ours: Sequence[Sample], reference: Sequence[Sample], command: str, note: str = ""
) -> dict[str, Any]:
    """Return the row of two alternated timings: medians of processor seconds; the note names single measurements."""
    if not note and min(len(ours), len(reference)) == 1:
        note = "measured once on each side"
    return row(name, median(ours), median(reference), "processor s", command, note)


@dataclass
class Piece:
    """Result of one benchmark."""

    table: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str, ours: Sequence[Sample], reference: Sequence[Sample]) -> None:
        """Keep every single time behind a row."""
        self.detail[name] = {
            side: [{"cpu_s": round(x.cpu_s, 4), "wall_s": round(x.wall_s, 4)} for x in samples]
            for side, samples in (("ours", ours), ("reference", reference))
        }

    def write(self, path: Path, versions: Mapping[str, str] | None = None) -> None:
        """Write one JSON file; ``versions`` are those of the reference's environment."""
        detail = {
            **self.detail,
            "versions": {**provenance.versions(), **(versions or {})},
            "machine": platform.machine(),
        }
        write_json(path, {"table": self.table, "rows": self.rows, "detail": detail})


def clock(device: str) -> tuple[str, str]:
    """Return (field of ``Sample``, its unit) of a device's work: processor time does not include a GPU's."""
    return ("cpu_s", "processor s") if device == "cpu" else ("wall_s", "s")


def peak_bytes(field_name: str = "VmHWM") -> int:
    """Return a field of /proc/self/status in bytes: VmHWM (peak resident set), RssAnon (memory of its own)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field_name}:"):
            return 1024 * int(line.split()[1])
    raise BenchmarkError(f"this system's /proc/self/status has no {field_name}: memory is measured on Linux")


def parser(description: str, *, repeats: int | None = 3, reference: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with the shared options: ``--out``, ``--threads``, ``--repeats``, ``--reference-python``."""
    made = cli.parser(description)
    made.add_argument("--out", type=OutputFile, required=True, help="JSON piece to write")
    made.add_argument("--seed", type=int, default=0, help="seed of synthetic weights and activations")
    if repeats is not None:
        made.add_argument("--repeats", type=int, default=repeats, help="measurements of each side, in alternation")
    if reference is not None:
        made.add_argument(
            "--reference-python", type=Path, required=True, help=f"interpreter of an environment with {reference}"
        )
    return made


def command_line(module: str, args: argparse.Namespace) -> str:
    """Return the command as ``module``'s own parser reads it again, with defaults, files relative to the folder.

    ``benchmarks.records`` replaces it by the Snakemake target for pieces of the plan, which makes what it needs too.
    """
    words = ["python", "-m", module]
    for key, value in vars(args).items():
        if value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words += [spelled(each) for each in (value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(words)


def spelled(value: Any) -> str:
    """Return one value of an option as a word; files below the working directory are relative to it."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, Path) and value.is_relative_to(Path.cwd()):
        return str(value.relative_to(Path.cwd()))
    return str(value)
