"""Published leagues grow by runs of the same model and bank, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paper.extend import extend
from paper.publish import MANIFEST, Also, publish
from ramp.errors import RampError
from ramp.files import read_json, sha256_file, write_json
from ramp.records import read_table, write_table
from tests.synthetic_league import league_records, optimum_records
from tests.synthetic_records import write_records

Tables = dict[str, list[dict[str, Any]]]


def league(folder: Path, tables: Tables, commit: str) -> Path:
    """A results folder of a league with some runs."""
    for name, rows in tables.items():
        write_table(folder / "records" / f"{name}.csv", rows)
    write_json(folder / "config.json", {"study": "league", "made": commit})
    write_json(folder / "league" / "m" / "0.json", {"commit": commit})
    return folder


def only(tables: Tables, *runs: tuple[str, int]) -> Tables:
    """The rows of some allocators and seeds."""
    return {
        name: [row for row in rows if (row.get("allocator"), row.get("seed")) in runs] for name, rows in tables.items()
    }


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A study with a league of the knapsack and one seed of ramp."""
    results = tmp_path / "study"
    write_records(results / "records")
    write_json(results / "records" / "claims.json", [])
    write_json(results / "config.json", {"study": "synthetic"})
    first = league(tmp_path / "first", only(league_records(), ("knapsack", 0), ("ramp", 0)), "a")
    publish(results, tmp_path / "out", "snakemake", also=[Also(first, "snakemake league", "in part")])
    return tmp_path / "out"


def test_runs_are_added_and_published_ones_stay(published: Path, tmp_path: Path) -> None:
    more = only(league_records(planned=40), ("knapsack", 0), ("ramp", 0), ("ramp", 1))
    for row in more["league"]:
        if row["allocator"] == "ramp":
            row["kl_held"] *= 1.2  # a search may end elsewhere: the published seed 0 must not become this one
    before = read_table(published / "league.csv")
    counts = extend(published, league(tmp_path / "more", {**more, **optimum_records()}, "b"), "two seeds")
    assert counts["league"] == 6  # three budgets, two checkpoints
    after = read_table(published / "league.csv")
    assert len(after) == len(before) + 6
    assert set(after["planned"]) == {40}
    key = ["budget_bits", "allocator", "seed", "evals"]
    kept = before.merge(after, on=key, suffixes=("", "_after"))
    assert len(kept) == len(before)
    assert (kept["kl_held"] == kept["kl_held_after"]).all()
    windows = read_table(published / "league_windows.csv")
    assert set(windows[windows["allocator"] == "ramp"]["seed"]) == {0, 1}
    entry = read_json(published / MANIFEST)["also"][0]
    assert entry["commits"] == ["a", "b"]
    assert entry["note"] == "two seeds"
    assert {"league.csv", "optimum.csv"} <= set(entry["tables"])
    files = read_json(published / MANIFEST)["files"]
    assert {path.name for path in published.iterdir()} - {MANIFEST} == set(files)
    assert all(sha256_file(published / name) == about["sha256"] for name, about in files.items())
    assert read_json(published / "config_league.json")["made"] == "b"
    assert {claim["id"] for claim in read_json(published / "claims.json")} >= {"C1", "C7"}, "claims are judged anew"


@pytest.mark.parametrize(("factor", "runs", "said"), [
    (1.01, (("knapsack", 0), ("ramp", 1)), "differs from the published one by 1 %"),
    (1.0, (("ramp", 1),), "nothing shows that they are one model"),
])  # fmt: skip
def test_another_bank_is_refused_and_nothing_is_written(
    published: Path, tmp_path: Path, factor: float, runs: tuple[tuple[str, int], ...], said: str
) -> None:
    more = only(league_records(), *runs)
    for row in more["league"]:
        row["kl_held"] *= factor
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(RampError, match=said):
        extend(published, league(tmp_path / "more", more, "b"))
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_a_model_that_is_not_published_needs_no_witness(published: Path, tmp_path: Path) -> None:
    more = only(league_records(), ("ramp", 1))
    for row in (row for rows in more.values() for row in rows):
        row["model"] = "another"
    assert extend(published, league(tmp_path / "more", more, "b"))["league"] == 6


def test_a_study_of_which_nothing_is_published_is_refused(published: Path, tmp_path: Path) -> None:
    other = league(tmp_path / "more", league_records(), "b")
    write_json(other / "config.json", {"study": "mine"})
    with pytest.raises(RampError, match="nothing of the study 'mine' yet"):
        extend(published, other)
