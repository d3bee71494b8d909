"""Collect the measurements of a study into the records: the tables from which everything a reader sees is made.

    python -m ramp.records.collect --metrics R/metrics/*/*.json --rows R/quantized/*/*/meta.json ... --out R/records

Reads exactly the files named on the command line, so that a stale file of an earlier configuration cannot
leak in, and measures nothing. Always writes records, windows, items, allocations, episodes, activations,
transfer and halo (header only where there was nothing to collect); league, optimum, folding,
benchmarks and parity come from their own stages. Rows are joined by the record key; a file without its row is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import DamagedFile, parse_json, read_json, read_text
from ramp.core.checksum_sidecar import check_sidecar
from ramp.core.output_path import OutputFolder
from ramp.methods.names import UNQUANTIZED
from ramp.records.runs import content_of, named, orphan, refuse_leak
from ramp.records.schema import KEY_NAMES
from ramp.records.table import RecordsError, write_tables

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.metrics_file import read_metrics

Row = dict[str, Any]

NOT_RUN = "not run"
"""``produced`` of a row whose package could not run; ``note`` says why."""

PACKAGE = "package:"
"""Prefix of the names in ``versions`` that belong to the environment of another package."""

NOT_SEARCH = ("notes", "ppl_search", "budget_bytes")
"""Fields of a metrics file's search that the records hold elsewhere or not at all."""

CHECK = ("file", "check", "value", "limit", "ok")
"""Fields of a check of an exported file."""


def key_of(record: Mapping[str, Any], where: str | Path) -> Row:
    """Return the record key of a metrics, tasks or meta file; ``RecordsError`` names what is missing."""
    found = record.get("key", record)
    missing = [
        name for name in KEY_NAMES if not isinstance(found, dict) or not isinstance(found.get(name), str | int | float)
    ]
    if missing:
        raise RecordsError(f"{where} lacks {', '.join(missing)} of the record key: run its stage again")
    return named(found, KEY_NAMES)


def identity(key: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a record key as a tuple, which dictionaries take."""
    return tuple(key[name] for name in KEY_NAMES)


def record_row(
    metrics: Mapping[str, Any],
    scores: Mapping[str, Any] | None,
    about: Mapping[str, Any],
    ran_with: Mapping[str, str] | None = None,
) -> Row:
    """Return a line of records.csv, from a metrics file and, where the tasks were scored, their file.

    ``ran_with``: versions of the package that quantized the row (``package_versions`` of its meta.json); the other
    versions are of the environment that scored it.
    """
    row = {**key_of(metrics, "a metrics file"), **about, **metrics["sizes"]}
    made, search = metrics.get("made", {}), metrics.get("search")
    row["commit"] = metrics.get("commit", "")
    row["track"] = made.get("track", "")
    row["quantize_wall_s"] = made.get("wall_s")
    row["peak_rss_bytes"], row["peak_gpu_bytes"] = made.get("peak_rss_bytes"), made.get("peak_gpu_bytes") or None
    if search is None:
        special = row["stage"] in UNQUANTIZED
        uniform = "package" if made.get("external") else "uniform"
        row |= {"kind": row["stage"] if special else uniform, "search_evals": 0, "search_tokens": 0}
    else:
        row |= {name: value for name, value in search.items() if name not in NOT_SEARCH}
    for text, found in metrics["texts"].items():
        for name in ("ppl", "ppl_low", "ppl_high", "kl", "kl_low", "kl_high", "length"):
            row[f"{name}_{text}"] = found[name]
        row[f"n_windows_{text}"] = len(found["windows"])
    for task, found in (scores or {}).get("tasks", {}).items():
        for name in ("acc", "acc_norm", "acc_se"):
            row[f"{name}_{task}"] = found[name]
        row[f"n_items_{task}"] = len(found["items"])
    row["produced"] = "simulated" if metrics["simulated"] else "exported"
    if made.get("failed"):
        row["produced"] = NOT_RUN
    row["note"] = metrics["note"]
    versions = metrics["versions"] | ({"lm_eval": scores["lm_eval_version"]} if scores else {})
    versions |= {f"{PACKAGE}{name}": version for name, version in (ran_with or {}).items()}
    row["versions"] = " ".join(f"{name}={version}" for name, version in sorted(versions.items()))
    row |= {name: metrics.get(name, "") for name in ("hardware", "dtype", "arithmetic")}
    return row


def window_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Return the lines of windows.csv that a metrics file holds."""
    key = key_of(metrics, "a metrics file")
    return [{**key, "text": text, **window} for text, found in metrics["texts"].items() for window in found["windows"]]


def item_rows(scores: Mapping[str, Any]) -> list[Row]:
    """Return the lines of items.csv that a tasks file holds."""
    key = key_of(scores, "a tasks file")
    return [{**key, "task": task, **item} for task, found in scores["tasks"].items() for item in found["items"]]


def by_short_name(keys: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    """Return the keys of final affine rows by (model, method, budget, seed), which name files."""
    final = [key for key in keys if key["grid"] == "affine" and not key["stage"].startswith("final_")]
    return {(k["model"], k["method"], float(k["budget_bits"]), k["seed"]): k for k in final}


def episode_rows(path: Path, keys: Mapping[tuple[Any, ...], Row]) -> list[Row]:
    """Return the lines of episodes.csv of one ``.../{model}/{method}/{budget}/{seed}/episodes.jsonl``."""
    try:
        model, method, budget, seed = path.resolve().parts[-5:-1]
        key = keys[model, method, float(budget), int(seed)]
    except (KeyError, ValueError):
        raise orphan(path) from None
    check_sidecar(path, "run the search again")
    found = []
    for number, line in enumerate(read_text(path, "episodes").splitlines(), start=1):
        try:
            row = parse_json(line, Row, f"{path}, line {number}")
        except DamagedFile as error:
            raise RecordsError(f"{error}: run the search again") from None
        row.pop("choice", None)  # one sign per linear: kept in the search's own log alone
        found.append({**key, **row})
    return found


def read_keyed(paths: Sequence[Path], known: Mapping[tuple[Any, ...], Row]) -> dict[tuple[Any, ...], tuple[Path, Row]]:
    """Return the JSON files by the identity of their record key.

    Raises:
        RecordsError: a file without a key, a second one of a key, or one whose key is not among ``known``.
    """
    found: dict[tuple[Any, ...], tuple[Path, Row]] = {}
    for path in paths:
        value = read_json(path, Row, sealed=True)
        key = identity(key_of(value, path))
        if key not in known:
            raise orphan(path)
        if key in found:
            raise RecordsError(f"{path} and {found[key][0]} are of one row: one input was given twice")
        found[key] = path, value
    return found


def collect(
    *,
    metrics: Sequence[Path],
    out: Path,
    tasks_scored: Sequence[Path] = (),
    rows: Sequence[Path] = (),
    allocations: Sequence[Path] = (),
    episodes: Sequence[Path] = (),
    activations: Sequence[tuple[Path, Path | None]] = (),
    halo: Sequence[Path] = (),
    models: Sequence[Path] = (),
    source: str = "",
    config_hash: str = "",
) -> dict[str, int]:
    """Read the named files, write all tables of this stage to ``out``; return the number of rows of each."""
    from ramp.problem.allocation import read_allocation
    from ramp.records.collect_layers import activation_rows, allocation_rows, linears_by_model, reported_rows
    from ramp.records.collect_transfer import transfer_rows

    measured = [read_metrics(path).written() for path in metrics]
    keys = {identity(key): key for key in (key_of(found, path) for found, path in zip(measured, metrics, strict=True))}
    scored, metas = read_keyed(tasks_scored, keys), read_keyed(rows, keys)
    short = by_short_name(keys.values())
    linears = linears_by_model(models)
    records: list[Row] = []
    windows: list[Row] = []
    reported: list[Row] = []
    items: list[Row] = []
    for path, found in zip(metrics, measured, strict=True):
        with content_of(path):
            refuse_leak(found.get("made", {}), path)
            name = identity(found["key"])
            (_, tasks), (_, meta) = scored.get(name, (None, None)), metas.get(name, (None, {}))
            records.append(record_row(found, tasks, {"config_hash": config_hash}, meta.get("package_versions")))
            windows += window_rows(found)
    for path, meta in metas.values():
        with content_of(path):
            refuse_leak(meta, path)
            reported += reported_rows(meta, linears, path)
    for path, found in scored.values():
        with content_of(path):
            items += item_rows(found)
    searched = [row for path in allocations for row in allocation_rows(read_allocation(path), short, linears, path)]
    return write_tables(
        out,
        {
            "records": records,
            "windows": windows,
            "items": items,
            "allocations": reported + searched,
            "episodes": [row for path in episodes for row in episode_rows(path, short)],
            "activations": activation_rows(activations, linears),
            "transfer": transfer_rows(measured, source),
            "halo": [named(check, CHECK) for path in halo for check in read_json(path, list[Row])],
        },
    )


def _pair(value: str) -> tuple[Path, Path | None]:
    calibration, _, fold = value.partition("=")
    return Path(calibration), Path(fold) if fold else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect named measurement files into the records (CSV tables with a schema).")

    def files(option: str, help_: str, type_: Any = Path, metavar: str = "FILE") -> None:
        parser.add_argument(option, nargs="*", default=[], type=type_, metavar=metavar, help=help_)

    files("--metrics", "metrics of all rows (R/metrics/M/ROW.json)")
    files("--tasks-scored", "scored tasks (R/tasks_scored/M/ROW.json)")
    files("--rows", "meta.json of the rows: the widths that were written")
    files("--allocations", "allocation files: policy's and warm start's widths beside the reported ones")
    files("--episodes", "R/search/M/METHOD/BUDGET/SEED/episodes.jsonl")
    files("--activations", "statistics of a model, and a fold of it", _pair, "CALIBRATION[=FOLD]")
    files("--halo", "checks of exported files (R/halo/M/ROW.check.json)")
    files("--models", "folders of the models named in --rows, --allocations and --activations", Path, "DIR")
    parser.add_argument("--source", default="", help="model that trained the transferred policies")
    parser.add_argument("--config-hash", default="", help="of the study's configuration, for the records")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    collect(**vars(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
