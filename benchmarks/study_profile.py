"""Processor time of a study's jobs by rule and model, before and after a change: profile.csv, and the ratios.

    python -m benchmarks.study_profile --study smoke --before OLD/results/smoke/logs --after results/smoke/logs \\
        --out results/published/profile.csv

Reads the last line of every log. A side may be several runs (folders of logs, one after another): the table has their
means, and the ratio of the totals is printed with the least and the largest over all pairs of runs. ``--before`` takes
a profile.csv too, whose seconds after the change are those before this one. Rows of other studies in ``--out`` stay.
``--page docs/speed.md`` writes the table there, between the marks of the study. ``--functions DIR`` sums the files that
a run under ``RAMP_PROFILE=DIR`` left, and adds their table to the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, require_file, write_text
from ramp.core.errors import RampError
from ramp.core.job_log import JobCost, job_cost
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from tabulate import tabulate

    from ramp.core.marked_page import with_part
    from ramp.records.table import read_table, table, write_table

NO_MODEL = "none"
"""Stands in the place of a model where a rule works on none."""

SMALL_S = 1.0
"""Rules that took less for a model, before and after, share the last line of the page's table."""

FUNCTIONS = 25
"""Functions that the page lists, the dearest first; the others share a line."""

Key = tuple[str, str]  # rule, model
Run = dict[Key, list[JobCost]]


class ProfileError(RampError):
    """Logs of no finished job."""


def read_run(logs: Path) -> Run:
    """Return the finished jobs of a run by rule and model, from its folder of logs."""
    models = sorted((path.name for path in (logs.parent / "models").glob("*")), key=len, reverse=True)
    names, ending = "|".join(map(re.escape, models)), r"(?:\.draw\d+)?(?:\.leak-[a-z_]+-[a-z_]+)?(?![a-z0-9])"
    named = re.compile(f"(?:{names}){ending}") if models else None
    run: Run = {}
    for log in sorted(logs.rglob("*.log")):
        rule, *rest = log.relative_to(logs).with_suffix("").parts
        found = named.match("/".join(rest)) if named else None
        if cost := job_cost(log):
            run.setdefault((rule, found[0] if found else NO_MODEL), []).append(cost)
    if not run:
        raise ProfileError(f"no log of a finished job below {logs}: name the folder logs of a study's results")
    return run


def seconds(run: Run) -> dict[Key, float]:
    """Return the processor seconds by rule and model."""
    return {key: sum(cost.cpu_s for cost in costs) for key, costs in run.items()}


def published(path: Path, study: str) -> dict[Key, float]:
    """Return the processor seconds after the change that an earlier profile is of; none where it lacks the study."""
    rows = read_table(path, table("profile"))
    rows = rows[(rows["study"] == study) & rows["cpu_s_after"].notna()]
    return {(row.rule, row.model): float(row.cpu_s_after) for row in rows.itertuples()}


def mean(runs: Sequence[Mapping[Key, float]], key: Key) -> float | None:
    """Return the mean over the runs that have such jobs; None where none has."""
    found = [run[key] for run in runs if key in run]
    return round(sum(found) / len(found), 1) if found else None


def profile_rows(study: str, before: Sequence[Mapping[Key, float]], after: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of the table: every rule and model of either side."""
    now = [seconds(run) for run in after]
    rows = []
    for key in sorted({key for run in (*before, *now) for key in run}):
        costs = after[-1].get(key, [])
        row: dict[str, Any] = {"study": study, "rule": key[0], "model": key[1], "jobs": len(costs)}
        row |= {"cpu_s_before": mean(before, key), "cpu_s_after": mean(now, key)}
        rows.append(row | {"peak_rss_bytes": max((cost.peak_rss_bytes for cost in costs), default=None)})
    return rows


def report(rows: Iterable[Mapping[str, Any]], before: Sequence[float], after: Sequence[float]) -> str:
    """Return seconds before and after by rule, dearest first, and the ratio of the totals with its spread."""
    rules: dict[str, list[float]] = {}
    for row in rows:
        sums = rules.setdefault(row["rule"], [0.0, 0.0])
        for side, name in enumerate(("cpu_s_before", "cpu_s_after")):
            sums[side] += row[name] or 0.0
    lines = [f"{'rule':<20} {'before s':>9} {'after s':>9}  ratio"]
    for rule, (old, new) in sorted(rules.items(), key=lambda item: -max(item[1])):
        lines.append(f"{rule:<20} {old:9.1f} {new:9.1f}  {f'{new / old:.2f}' if old else ''}")
    old, new = sum(before) / max(len(before), 1), sum(after) / len(after)
    ratios = sorted(new / old for new in after for old in before if old)
    ratio = f"{new / old:.2f}" if old else ""
    spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
    return "\n".join([*lines, f"{'all':<20} {old:9.1f} {new:9.1f}  {ratio}{spread}"])


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table, dearest first, with what one job costs and the sums."""
    head = ("rule", "model", "jobs", "s before", "s after", "s a job", "MiB at peak")
    shown, small, everything = list[Sequence[Any]](), [0.0] * 3, [0.0] * 3
    for row in sorted(rows, key=lambda row: -max(_cost(row, "before"), _cost(row, "after"))):
        costs = (int(row["jobs"]), _cost(row, "before"), _cost(row, "after"))
        everything = [one + other for one, other in zip(everything, costs, strict=True)]
        if max(costs[1:]) < SMALL_S:
            small = [one + other for one, other in zip(small, costs, strict=True)]
        else:
            peak = f"{row['peak_rss_bytes'] / 2**20:.0f}" if row["jobs"] else ""
            shown.append([row["rule"], row["model"], *_cells(*costs), peak])
    shown += [[f"less than {SMALL_S:g} s each", "", *_cells(*small), ""], ["all", "", *_cells(*everything), ""]]
    return str(tabulate(shown, head, tablefmt="pipe", disable_numparse=True, colalign=["left"] * 2 + ["right"] * 5))


def function_seconds(folder: Path) -> Counter[str]:
    """Return the processor seconds of a run by function, from the files of ``ramp.core.function_times``."""
    found: Counter[str] = Counter()
    for file in sorted(folder.glob("*.json")):
        found.update(read_json(file, dict[str, float]))
    if not found:
        raise ProfileError(f"no profile of a stage in {folder}: run the study under RAMP_PROFILE={folder}")
    return found


def functions_table(found: Counter[str]) -> str:
    """Return seconds by function as a Markdown table, dearest first, with their share of all."""
    total, shown = found.total(), found.most_common(FUNCTIONS)
    rest = total - sum(value for _, value in shown)
    rows = [(f"`{name}`", value) for name, value in shown]
    rows += [(f"{len(found) - len(shown)} others", rest)] * (len(found) > len(shown)) + [("all", total)]
    cells = [(name, f"{value:.1f}", f"{value / total:.1%}") for name, value in rows]
    head = ("function", "s", "share")
    return str(tabulate(cells, head, tablefmt="pipe", disable_numparse=True, colalign=("left", "right", "right")))


def _cost(row: Mapping[str, Any], side: str) -> float:
    value = row[f"cpu_s_{side}"]
    return 0.0 if value is None or value != value else float(value)


def _cells(jobs: float, before: float, after: float) -> list[str]:
    return [
        f"{jobs:.0f}",
        f"{before:.1f}" if before else "",
        f"{after:.1f}" if after else "",
        f"{after / jobs:.1f}" if jobs else "",
    ]


def marks(study: str, what: str = "profile") -> tuple[str, str]:
    """Return the comments before and behind a study's table on a page."""
    return (
        f"<!-- {what} of {study}: begin (written by python -m benchmarks.study_profile) -->",
        f"<!-- {what} of {study}: end -->",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Compare the processor time of a study's jobs before and after a change.")
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="folders of logs, or a profile.csv")
    parser.add_argument("--after", type=Path, nargs="+", required=True, help="folders of logs")
    parser.add_argument("--out", type=OutputFile, required=True, help="CSV file to write; rows of other studies stay")
    parser.add_argument("--page", type=Path, help="Markdown file with marks of the study, to write the table between")
    parser.add_argument("--functions", type=Path, help="folder of a run's RAMP_PROFILE, whose table goes to the page")
    args = parser.parse_args(argv)
    if args.functions and not args.page:
        raise RampError("--functions writes a table of a page: give --page too")
    before = [published(path, args.study) if path.suffix == ".csv" else seconds(read_run(path)) for path in args.before]
    after = [read_run(path) for path in args.after]
    rows = profile_rows(args.study, before, after)
    others = read_table(args.out, table("profile")).to_dict("records") if args.out.is_file() else []
    page = ""
    if args.page:
        page = require_file(args.page, "page").read_text(encoding="utf-8")
        page = with_part(page, *marks(args.study), markdown(rows))
        if args.functions:
            page = with_part(page, *marks(args.study, "functions"), functions_table(function_seconds(args.functions)))
    write_table(args.out, [*(row for row in others if row["study"] != args.study), *rows], table("profile"))
    if args.page:
        write_text(args.page, page)
    print(report(rows, [sum(run.values()) for run in before], [sum(seconds(run).values()) for run in after]))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
