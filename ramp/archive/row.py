"""One row of an archive made again: from its archived values per window, or by evaluating its weights once more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ramp.archive.container import Archive
from ramp.archive.contents import RESULTS
from ramp.core.atomic_files import parse_json, require_file, sha256_file
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.core.safe_path import below
from ramp.core.stale_temporaries import temporary_folder
from ramp.evaluation.bootstrap import interval
from ramp.evaluation.metrics_file import MetricsFile, read_metrics
from ramp.records.row_agreement import missing
from ramp.records.schema import KEY_NAMES
from ramp.records.table import instances, read_table
from ramp.rows.meta_file import RowMeta, read_meta

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Largest relative difference of one arithmetic on the same values by other versions of numpy."""

PROJECT = Path(__file__).resolve().parents[2]

Row = Mapping[str, Any]


Found = TypeVar("Found")


@dataclass(frozen=True)
class Settings:
    """Fields that are read of a study's configuration."""

    threads: int = 1
    device: str = "auto"
    reproducible: bool = True


@dataclass(frozen=True)
class Again:
    """One number of a row, as recorded and as made again."""

    column: str
    recorded: float
    again: float
    low: float | None = None  # ends of the row's own interval, for a number that was measured again
    high: float | None = None

    @property
    def verdict(self) -> str:
        """Return how both agree, in words; empty where they do not."""
        if self.recorded == self.again:
            return "equal digits"
        if self.recorded != self.recorded and self.again != self.again:
            return "without a value in both"
        if abs(self.again - self.recorded) <= TOLERANCE * abs(self.recorded):
            return "equal but for rounding"
        if self.low is not None and self.high is not None and self.low <= self.again <= self.high:
            return "within the row's interval over windows"
        return ""

    def line(self) -> str:
        """Return one line of the report."""
        return f"  {self.column}: {self.recorded:.10g} recorded, {self.again:.10g} now: {self.verdict or 'DISAGREES'}"


def short_name(row: Row) -> str:
    """Return a row's name as its folder has it: METHOD-bBITS-sSEED, with the grid or track that is not the usual."""
    name = f"{row['method']}-b{row['budget_bits']:g}-s{row['seed']}"
    ending = "ggml" if row["grid"] == "ggml" else str(row["stage"]).partition("final_")[2]
    return f"{name}-{ending}" if ending else name


def find_row(records: pd.DataFrame, wanted: str) -> dict[str, Any]:
    """Return the one row that MODEL/METHOD or MODEL/METHOD-bBITS-sSEED names; ``RampError`` where it is not one."""
    model, slash, name = wanted.partition("/")
    if not slash or not name:
        raise RampError(f"--row {wanted}: write MODEL/METHOD, or MODEL/METHOD-bBITS-sSEED")
    rows = [{str(key): value for key, value in row.items()} for row in records.to_dict("records")]
    models = {str(row["model"]) for row in rows}
    if model not in models:
        raise RampError(f"--row {wanted}: no model '{model}' in the records{nearest(model, models)}")
    own = [row for row in rows if row["model"] == model]
    found = [row for row in own if short_name(row) == name] or [row for row in own if row["method"] == name]
    if len(found) == 1:
        return found[0]
    names = sorted(short_name(row) for row in found or own)
    if found:
        raise RampError(f"--row {wanted} may be any of {', '.join(names)}: write one of them after {model}/")
    raise RampError(f"--row {wanted}: no such row of {model}{nearest(name, names)}; it has {', '.join(names)}")


def read_tables(archive: Archive, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return tables of the archived records by name, checked against their schema; absent ones are left out."""
    found = {}
    inside = f"{archive.path}: {RESULTS}/records"
    with temporary_folder("ramp-tables", inside) as folder:  # the reader of tables takes files; their names are ours
        for name in names:
            member, file = f"{RESULTS}/records/{name}.csv", folder / f"{name}.csv"
            if member in archive.names:
                archive.copy(member, file)
                found[name] = read_table(file)
    return found


def of_row(table: pd.DataFrame, row: Row) -> pd.DataFrame:
    """Return the lines of a table that belong to a row, by the record key."""
    for name in KEY_NAMES:
        table = table[table[name] == row[name]]
    return table


def _numbers(windows: list[dict[str, Any]], text: str) -> dict[str, float]:
    """Return mean KL and perplexity with their intervals, as columns of the records; what has no value is left out."""
    found: dict[str, float | None] = {f"n_windows_{text}": len(windows)}
    for kind in ("kl", "ppl"):
        one = interval(windows, "kl" if kind == "kl" else "ppl")
        found |= {f"{kind}_{text}": one.value, f"{kind}_low_{text}": one.low, f"{kind}_high_{text}": one.high}
    return {name: float(value) for name, value in found.items() if value is not None}


def from_windows(tables: Mapping[str, pd.DataFrame], row: Row) -> list[Again]:
    """Return every number of a row that its archived windows and linears give.

    Raises:
        RampError: the row has no windows: it was not evaluated.
    """
    found: list[Again] = []
    for text in instances(tables["records"].columns, "text"):
        windows = of_row(tables["windows"], row)
        part = windows[windows["text"] == text].to_dict("records")
        if part:
            numbers = _numbers([{str(key): value for key, value in each.items()} for each in part], text)
            found += [Again(name, float(row[name]), value) for name, value in numbers.items() if not missing(row[name])]
    if not found:
        raise RampError(f"{row['model']}/{short_name(row)} has no values per window: {row['note'] or 'not evaluated'}")
    if "allocations" in tables and not missing(row["bytes_linear"]):
        linears = of_row(tables["allocations"], row)
        sizes = linears[linears["which"] == "reported"]["bytes"]
        if len(sizes) and sizes.notna().all():
            found.append(Again("bytes_linear", float(row["bytes_linear"]), float(sizes.sum())))
    return found


def _float(value: Any) -> float:
    """Return a number, or NaN where a row has no finite value."""
    return float("nan") if missing(value) else float(value)


def evaluated_again(archive: Archive, row: Row, results: Path) -> list[Again]:
    """Evaluate a row's weights once more with the weights, model and references in ``results``; a few seconds or hours.

    Raises:
        RampError: the archive has no metrics of the row, ``results`` lacks its weights or has others, evaluation fails.
    """
    place = f"{row['model']}/{short_name(row)}"
    metrics = _archived(archive, f"metrics/{place}.json", place, MetricsFile)
    config = _archived(archive, "config.json", place, Settings)
    folder = below(results / "quantized", place, archive.path)
    _same_weights(folder, _archived(archive, f"quantized/{place}/meta.json", place, RowMeta))
    model = require_file(below(results / "models", row["model"], archive.path), "float model")
    inner = below(results / "reference", row["model"], archive.path)
    references = {text: below(inner, f"{text}.safetensors", archive.path) for text in metrics.texts}
    given = [f"{text}={require_file(path, 'reference').resolve()}" for text, path in references.items()]
    with temporary_folder("ramp-verify") as made:
        out = made / "metrics.json"
        command = [
            sys.executable, "-m", "ramp.evaluation", "row", "--row-dir", folder.resolve(), "--model-dir",
            model.resolve(), "--reference", *given, "--dtype", metrics.dtype or "float32",
            "--threads", config.threads, "--device", config.device, "--out", out, "--arithmetic",
            "reproducible" if config.reproducible else "fast",
        ]  # fmt: skip
        done = subprocess.run([str(each) for each in command], cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RampError(f"{place} cannot be evaluated again: {last}")
        texts = read_metrics(out).texts
    found = []
    for text, again in texts.items():
        for kind in ("kl", "ppl"):
            recorded, low, high = (row[f"{kind}{end}_{text}"] for end in ("", "_low", "_high"))
            ends = [None if missing(end) else float(end) for end in (low, high)]
            found.append(Again(f"{kind}_{text}", _float(recorded), _float(getattr(again, kind)), *ends))
    if not found:
        raise RampError(f"{place} was not evaluated: {row['note'] or 'it has no texts'}")
    return found


def _archived(archive: Archive, name: str, place: str, model: type[Found]) -> Found:
    """Return a JSON file below ``results/`` as a ``model``; ``RampError`` where the archive has none."""
    member = f"{RESULTS}/{name}"
    if member not in archive.names:
        raise RampError(f"{archive.path} has no {member}: recompute {place} from its windows, without --results")
    return parse_json(archive.read(member), model, f"{archive.path}: {member}")


def _same_weights(folder: Path, meta: RowMeta) -> None:
    """Raise ``RampError`` where a row's folder has no weights, or others than the archive names."""
    here = read_meta(folder)
    file = folder / (here.get("gguf") or "model.safetensors")  # never a path that the archive names
    same = here.get("gguf") == meta.gguf
    if same:
        found = sha256_file(require_file(file, "weights")) if meta.sha256 else here.get("sha256")
        same = found == meta.sha256
    if not same:
        raise RampError(f"{file} is not the file whose sha256 the archive names: give the study's own results folder")
