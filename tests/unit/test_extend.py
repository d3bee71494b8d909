"""Published records: whole copies with a manifest, nothing unfinished; leagues grow by runs of the same bank alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paper.extend import extend
from paper.league import League
from paper.publish import MANIFEST, Also, publish
from paper.study import Study
from ramp.core.errors import RampError
from ramp.core.files import read_json, sha256_file, write_json
from ramp.records.table import read_table
from tests.synthetic_league import league_records, optimum_records
from tests.synthetic_records import SOURCE, write_records, write_study, write_tables

Tables = dict[str, list[dict[str, Any]]]


def league(folder: Path, tables: Tables, commit: str) -> Path:
    """A results folder of a league with some runs."""
    write_tables(folder / "records", tables)
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
    results = write_study(tmp_path / "study")
    first = league(tmp_path / "first", only(league_records(), ("knapsack", 0), ("ramp", 0)), "a")
    publish(results, tmp_path / "out", "snakemake", also=[Also(first, "snakemake league", "in part")])
    return tmp_path / "out"


def test_runs_are_added_and_published_ones_stay(published: Path, tmp_path: Path) -> None:
    more = only(league_records(planned=40), ("knapsack", 0), ("ramp", 0), ("ramp", 1))
    for row in more["league"]:
        if row["allocator"] == "ramp":
            row["kl_held"] *= 1.2  # a search may end elsewhere: the published seed 0 must not become this one
    before = read_table(published / "league.csv")
    results = league(tmp_path / "more", {**more, **optimum_records()}, "b")
    counts = extend(published, results, "two seeds", "snakemake league optimum")
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
    assert (entry["note"], entry["command"]) == ("two seeds", "snakemake league optimum")
    assert {"league.csv", "optimum.csv"} <= set(entry["tables"])
    files = read_json(published / MANIFEST)["files"]
    assert {path.name for path in published.iterdir()} - {MANIFEST} == set(files)
    assert all(sha256_file(published / name) == about["sha256"] for name, about in files.items())
    assert read_json(published / "config_league.json")["made"] == "b"
    assert {claim["id"] for claim in read_json(published / "claims.json")} >= {"C1", "C7"}, "claims are judged anew"


def test_runs_on_another_bank_stand_beside_the_published_ones(published: Path, tmp_path: Path) -> None:
    """The same run again, elsewhere: both stay, and what the tables show is that of the bank with most runs."""
    more = only(league_records(), ("ramp", 0))
    for row in (row for rows in more.values() for row in rows):
        row["bank"] = "another"
    before = League(Study.read(published)).ratio(SOURCE, 20, "ramp")
    assert extend(published, league(tmp_path / "more", more, "b"))["league"] == 6
    after = League(Study.read(published))
    assert after.banks == {SOURCE: ["first", "another"]}
    assert after.ratio(SOURCE, 20, "ramp") == before


@pytest.mark.parametrize(("factor", "budget"), [(1.01, 3.5), (1.0, 3.75)])
def test_an_optimum_of_another_bank_is_refused_and_nothing_is_written(
    published: Path, tmp_path: Path, factor: float, budget: float
) -> None:
    tables = {**only(league_records(), ("ramp", 1)), **optimum_records()}
    extend(published, league(tmp_path / "more", tables, "b"))
    for row in tables["optimum"]:
        row["kl_optimum"] *= factor
        row["budget_bits"] = budget
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(RampError, match="another bank"):
        extend(published, league(tmp_path / "again", tables, "c"))
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_a_study_of_which_nothing_is_published_is_refused(published: Path, tmp_path: Path) -> None:
    other = league(tmp_path / "more", league_records(), "b")
    write_json(other / "config.json", {"study": "mine"})
    with pytest.raises(RampError, match="'mine'"):
        extend(published, other)


PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"


def test_manifest_names_every_file_with_its_checksum(tmp_path: Path) -> None:
    results = write_study(tmp_path / "results")
    manifest = publish(results, tmp_path / "out", "snakemake")
    copied = {path.name for path in (tmp_path / "out").iterdir()} - {MANIFEST}
    assert copied == set(manifest["files"])
    assert {"records.csv", "claims.json", "config.json"} <= copied
    for name in copied:
        assert manifest["files"][name]["sha256"] == sha256_file(
            results / ("records" if name != "config.json" else "") / name
        )


def test_another_study_adds_the_tables_that_the_first_lacks(tmp_path: Path) -> None:
    """Its tables, configuration and commits arrive; what both have stays the first one's."""
    results, league, out = write_study(tmp_path / "results"), tmp_path / "league", tmp_path / "out"
    (league / "records").mkdir(parents=True)
    for name in ("episodes.csv", "halo.csv", "records.csv"):
        (league / "records" / name).write_bytes((results / "records" / name).read_bytes())
    for name in ("episodes.csv", "halo.csv"):
        (results / "records" / name).unlink()
    (league / "league" / "m").mkdir(parents=True)
    write_json(league / "league" / "m" / "0.json", {"commit": "b"})
    write_json(league / "league" / "m" / "1.json", {"commit": "a"})
    write_json(league / "config.json", {"study": "league"})
    other = Also(league, "snakemake league", "in part")
    manifest = publish(results, out, "snakemake", also=[other])
    assert manifest["also"] == [
        {
            "study": "league", "command": "snakemake league", "note": "in part", "commits": ["a", "b"],
            "tables": ["episodes.csv", "halo.csv"],
        }
    ]  # fmt: skip
    assert {path.name for path in out.iterdir()} - {MANIFEST} == set(manifest["files"])
    assert manifest["files"]["config_league.json"]["sha256"] == sha256_file(league / "config.json")
    assert (out / "records.csv").read_bytes() == (results / "records" / "records.csv").read_bytes()
    for name in ("episodes.csv", "halo.csv"):
        (league / "records" / name).unlink()
    with pytest.raises(RampError, match="no table"):
        publish(results, out, "snakemake", also=[other])
    assert (out / MANIFEST).is_file(), "a refusal leaves what was published"


def test_unfinished_study_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "records")
    (tmp_path / "records" / "claims.json").unlink(missing_ok=True)
    with pytest.raises(RampError, match="finish the study"):
        publish(tmp_path, tmp_path / "out", "snakemake")
    assert not (tmp_path / "out").exists()


def test_what_is_published_matches_its_manifest() -> None:
    if not (PUBLISHED / MANIFEST).is_file():
        assert not list(PUBLISHED.glob("*.csv")), "records without a manifest: run python -m paper.publish"
        return
    files = read_json(PUBLISHED / MANIFEST)["files"]
    assert {path.name for path in PUBLISHED.iterdir()} - {MANIFEST, "README.md"} == set(files)
    assert all(sha256_file(PUBLISHED / name) == about["sha256"] for name, about in files.items())
