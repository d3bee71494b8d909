"""JSON files of runs, read and checked before they become tables of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.records.table import RecordsError

Run = dict[str, Any]

HELDOUT = "heldout"
"""The text on which rows over banks, tuned and leaking rows are compared."""


@contextmanager
def content_of(path: object) -> Iterator[None]:
    """Turn whatever a value of another type or name raises into one sentence on a file."""
    try:
        yield
    except RampError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise RecordsError(f"{path} is no file of its stage ({error!r}): run that again") from None


def _some(paths: Sequence[Path]) -> Sequence[Path]:
    if not paths:
        raise RecordsError("no run to collect: name at least one with --runs (or has none ended yet?)")
    return paths


def read_rows(paths: Sequence[Path]) -> list[Run]:
    """Return the metrics files at ``paths``; ``DamagedFile`` where one is none, ``RecordsError`` without paths."""
    from ramp.evaluation.metrics_file import read_metrics  # pydantic, which commands do not load before their work

    return [{"made": {}, "search": None, **read_metrics(path).written()} for path in _some(paths)]


def read_runs(paths: Sequence[Path], fields: Sequence[str]) -> list[Run]:
    """Return the JSON objects at ``paths``; ``RecordsError`` where one lacks one of ``fields``, or without paths."""
    runs = [read_json(path, Run, sealed=True) for path in _some(paths)]
    for run, path in zip(runs, paths, strict=True):
        check_fields(run, fields, path)
    return runs


def check_fields(found: Mapping[str, Any], fields: Sequence[str], path: Path) -> None:
    """Raise ``RecordsError`` where an object of a file lacks one of ``fields``."""
    if lacking := [name for name in fields if name not in found]:
        raise RecordsError(f"{path} lacks {', '.join(lacking)}: it is no file of this stage, run it again")


def check_alike(runs: Sequence[Run], paths: Sequence[Path], setting: Callable[[Run], Any], what: str) -> None:
    """Raise ``RecordsError`` where two runs of one model differ in ``setting``, which ``what`` names."""
    first: dict[str, tuple[Any, Path]] = {}
    for run, path in zip(runs, paths, strict=True):
        known, where = first.setdefault(run["model"], (setting(run), path))
        if known != setting(run):
            raise RecordsError(f"{path} and {where} of {run['model']} differ in {what}: run one of them again")


def check_scored_alike(lines: Sequence[Run], paths: Sequence[Path]) -> None:
    """Raise ``RecordsError`` where lines of one model were scored on other windows or in another dtype."""
    check_alike(lines, paths, lambda line: named(line, ("length", "n_windows", "dtype")), "held-out windows or dtype")


def heldout_scores(metrics: Run, path: Path) -> Run:
    """Return what a metrics file holds on held-out text; ``RecordsError`` where it was not scored there."""
    if (text := metrics["texts"].get(HELDOUT)) is None:
        raise RecordsError(f"{path} has no scores on '{HELDOUT}': evaluate the row on it")
    return dict(text)


def refuse_leak(made: Mapping[str, Any], path: Path) -> None:
    """Raise ``RecordsError`` for a row that was calibrated or searched on text near the held-out text."""
    if leak := made.get("leak"):
        raise RecordsError(
            f"{path} was calibrated or searched on text near the held-out text ({leak}): such rows stand in "
            "leakage.csv alone (snakemake leakage)"
        )


def named(run: Mapping[str, Any], names: Sequence[str]) -> Run:
    """Return the fields of ``run`` that ``names`` lists."""
    return {name: run[name] for name in names}


def orphan(path: Path) -> RecordsError:
    """Return the error of a file whose row is not collected."""
    return RecordsError(f"{path} belongs to none of the collected rows: give its row's --metrics too")
