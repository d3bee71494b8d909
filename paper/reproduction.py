"""Reproduction of a study: its command, commits and hours, as the paper's text names them."""

from __future__ import annotations

from collections.abc import Iterator

from paper.publish import commits_of
from paper.study import Study
from paper.words import listed, shown

SHIPPED = {
    "embedded": "snakemake --cores all",
    "smoke": "snakemake --cores all --configfile config/smoke.yaml",
    "league": "snakemake --cores all league optimum fold_ablation --configfile config/league.yaml",
    "paper": "snakemake --cores all --configfile config/paper.yaml",
}
"""Studies that this suite ships (``study`` of config/*.yaml), and the command that makes each. Others are a user's."""

DIGITS = 10
"""Letters of a commit that are printed; a mark of uncommitted edits stays behind them."""


def reproduction_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``repro.command``, ``repro.commits``, ``repro.time``, and ``repro.also.N`` for tables of other studies."""
    published = study.manifest.get("command")
    if command := published or SHIPPED.get(study.name):
        yield "repro.command", command
    commits = set(commits_of(study.frames["records"]))
    if not any("banks.csv" in entry["tables"] for entry in study.manifest.get("also", [])):
        commits |= set(commits_of(study.frame("banks")))  # made with the records
    if "arithmetic" not in study.frames["records"] or study.frames["records"]["arithmetic"].isna().all():
        yield "repro.older", "yes"
    if commits:
        yield "repro.commits", listed([_short(commit) for commit in sorted(commits)])
    records = study.frames["records"]
    searched = records[(records["grid"] == "affine") & (records["stage"] == "final")]  # others repeat a row's search
    seconds = sum(
        float(frame[name].fillna(0).sum())
        for name, frame in (("quantize_wall_s", records), ("search_wall_s", searched))
        if name in frame
    )
    if seconds:
        hours, minutes = shown(seconds, 1, 1 / 3600), shown(seconds, 1, 1 / 60)
        yield "repro.time", f"{hours} hours" if seconds >= 3600 else f"{minutes} minutes"
    made = [entry for entry in study.manifest.get("also", []) if entry["commits"]]
    for place, entry in enumerate(made):
        names = listed([_short(commit) for commit in entry["commits"]])
        tables = listed(sorted(name.removesuffix(".csv") for name in entry["tables"]))
        yield f"repro.also.{place}", f"{tables} ({entry['study']}): {names}"
    stability = sorted(set(commits_of(study.frame("stability"))))
    if stability and study.manifest:
        yield f"repro.also.{len(made)}", f"stability (apart): {listed([_short(commit) for commit in stability])}"
    if any(commit.endswith("-dirty") for entry in [*made, {"commits": stability}] for commit in entry["commits"]):
        yield "repro.dirty", "yes"


def _short(commit: str) -> str:
    name, mark, _ = commit.partition("-dirty")
    return name[:DIGITS] + mark
