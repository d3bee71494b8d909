"""Published records: whole copies with a manifest, nothing unfinished; leagues grow by runs of the same bank alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paper.extend import extend
from paper.league import League
from paper.publish import MANIFEST, OF_OTHERS, Also, publish
from paper.study import Study
from ramp.core.atomic_files import sha256_file, write_json
from ramp.core.errors import RampError
from ramp.records.table import read_table, write_table
from tests.sealed import read_json
from tests.synthetic_gguf import gguf_records
from tests.synthetic_league import bank_records, league_records, optimum_records
from tests.synthetic_leakage import leakage_records
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
    extend(published, league(tmp_path / "more", tables, "b"), command="snakemake league optimum")
    for row in tables["optimum"]:
        row["kl_optimum"] *= factor
        row["budget_bits"] = budget
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(RampError, match="another bank"):
        extend(published, league(tmp_path / "again", tables, "c"))
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_a_damaged_config_leaves_what_was_published(published: Path, tmp_path: Path) -> None:
    more = league(tmp_path / "more", league_records(), "b")
    (more / "config.json").write_text("{")
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(RampError, match=r"config\.json"):
        extend(published, more)
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


def test_files_of_something_else_are_not_replaced(tmp_path: Path) -> None:
    study, own = write_study(tmp_path / "study"), tmp_path / "own"
    own.mkdir()
    (own / "grades.csv").write_text("name,grade\n")
    with pytest.raises(RampError, match=r"holds grades\.csv and no manifest\.json"):
        publish(study, own, "snakemake")
    assert [path.name for path in own.iterdir()] == ["grades.csv"]


def test_a_damaged_table_of_packages_leaves_what_was_published(tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    publish(study, out, "snakemake")
    before = sorted(path.name for path in out.iterdir())
    (study / "external").mkdir()
    (study / "external" / "records.csv").write_text("bp\n1\n")
    with pytest.raises(RampError):
        publish(study, out, "snakemake")
    assert sorted(path.name for path in out.iterdir()) == before


def test_what_is_published_matches_its_manifest() -> None:
    if not (PUBLISHED / MANIFEST).is_file():
        assert not list(PUBLISHED.glob("*.csv")), "records without a manifest: run python -m paper.publish"
        return
    files = read_json(PUBLISHED / MANIFEST)["files"]
    assert {path.name for path in PUBLISHED.iterdir()} - {MANIFEST, "README.md", *OF_OTHERS} == set(files)
    assert all(sha256_file(PUBLISHED / name) == about["sha256"] for name, about in files.items())


# --- rows over banks -------------------------------------------------------------------------------------------------


def banks(folder: Path, keep: Callable[[dict[str, Any]], bool]) -> Path:
    """A results folder of the published study with some rows over banks."""
    write_tables(folder / "records", {name: [r for r in rows if keep(r)] for name, rows in bank_records(3).items()})
    write_json(folder / "config.json", {"study": "toy"})
    write_json(folder / "metrics" / "m.draw1" / "a.json", {"commit": "b"})
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The study alone, published, with the knapsack's rows on two banks."""
    results = write_study(tmp_path / "study")
    write_json(results / "config.json", {"study": "toy"})
    kept = banks(tmp_path / "some", lambda row: row["bank_seed"] < 2 and row["method"] == "knapsack")
    for file in (kept / "records").glob("banks*.csv"):
        (results / "records" / file.name).write_bytes(file.read_bytes())
    publish(results, tmp_path / "out", "snakemake")
    return tmp_path / "out"


def test_rows_are_added_to_a_published_bank_and_new_banks_beside_it(toy: Path, tmp_path: Path) -> None:
    """Of the study that was published first; a row that comes without its knapsack is compared with the published."""
    more = banks(tmp_path / "more", lambda row: row["bank_seed"] == 2 or row["allocation_bank"] == row["bank_seed"])
    new = read_table(more / "records" / "banks.csv")
    new.loc[new["method"] == "ramp", ["kl_knapsack", "ratio"]] = None
    write_table(more / "records" / "banks.csv", new)
    assert extend(toy, more, "three banks", "snakemake banks")["banks"] == 2 * 3 + 5
    table = read_table(toy / "banks.csv")
    assert set(table["bank_seed"]) == {0, 1, 2}
    assert len(table) == 3 * 4 + 2
    assert table[table["method"] == "ramp"]["ratio"].to_numpy() == pytest.approx([0.9, 0.909] * 3)
    assert len(read_table(toy / "banks_windows.csv")) == len(table) * 12
    manifest = read_json(toy / MANIFEST)
    [entry] = manifest["also"]
    assert (entry["study"], entry["command"], entry["note"]) == ("toy", "snakemake banks", "three banks")
    assert entry["tables"] == ["banks.csv", "banks_windows.csv"]
    assert entry["commits"] == ["b"]
    assert {path.name for path in toy.iterdir()} - {MANIFEST} == set(manifest["files"])
    assert extend(toy, more)["banks"] == 0
    assert len(read_json(toy / MANIFEST)["also"]) == 1


def test_rows_of_another_bank_are_refused_or_replace_it_as_a_whole(toy: Path, tmp_path: Path) -> None:
    more = banks(tmp_path / "more", lambda row: row["bank_seed"] == 1 and row["allocation_bank"] == 1)
    for name in ("banks", "banks_windows"):
        rows = read_table(more / "records" / f"{name}.csv")
        rows["kl"] *= 1.5
        write_table(more / "records" / f"{name}.csv", rows)
    before = {path.name: path.read_bytes() for path in toy.iterdir()}
    with pytest.raises(RampError, match="another bank"):
        extend(toy, more)
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == before
    assert extend(toy, more, replace=True)["banks"] == 4 - 2
    table = read_table(toy / "banks.csv").set_index(["method", "bank_seed", "allocation_bank", "search_seed"])
    assert table.loc[("knapsack", 1, 1, 0), "kl"] == pytest.approx(1.5 * 0.2 * 1.5)
    assert ("knapsack", 1, 0, 0) not in table.index, "the old bank's rows are gone"
    assert table.loc[("knapsack", 0, 0, 0), "kl"] == pytest.approx(0.2 * 0.9 * 1.5), "the other bank stays"


def test_a_bank_without_a_row_in_common_is_not_known_to_be_the_same(toy: Path, tmp_path: Path) -> None:
    more = banks(tmp_path / "more", lambda row: row["bank_seed"] == 0 and row["method"] == "ramp")
    with pytest.raises(RampError, match="nothing shows"):
        extend(toy, more)


def test_files_beside_mixes_are_added_and_replaced_model_by_model(toy: Path, tmp_path: Path) -> None:
    def files(name: str, *models: str, factor: float = 1) -> Path:
        folder = tmp_path / name
        tables = gguf_records(*models)
        for row in tables["gguf"]:
            row["kl"] *= factor
        write_tables(folder / "records", tables)
        write_json(folder / "config.json", {"study": "toy"})
        return folder

    before = {path.name: path.read_bytes() for path in toy.iterdir()}
    with pytest.raises(RampError, match=r"gguf\.csv.* give the --command"):
        extend(toy, files("one", "a"))
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == before
    assert extend(toy, files("one", "a"), command="snakemake gguf")["gguf"] == 8
    assert extend(toy, files("two", "a", "b", factor=2))["gguf"] == 8, "the model that is published stays"
    first = read_table(toy / "gguf.csv").set_index(["model", "file", "rival"])["kl"]
    assert first.loc[("b", "Q4_K_M.gguf", "none")] == pytest.approx(2 * first.loc[("a", "Q4_K_M.gguf", "none")])
    assert extend(toy, files("three", "a", factor=3), replace=True)["gguf"] == 0
    second = read_table(toy / "gguf.csv").set_index(["model", "file", "rival"])["kl"]
    assert second.loc["a"].to_numpy() == pytest.approx(3 * first.loc["a"].to_numpy())
    assert second.loc["b"].equals(first.loc["b"])
    assert len(read_table(toy / "gguf_checks.csv")) == 8


def test_leaks_and_entropies_are_added_bank_by_bank(toy: Path, tmp_path: Path) -> None:
    def measured(name: str, *draws: int, factor: float = 1, windows: int = 12) -> Path:
        tables = leakage_records(banks=draws)
        for line in tables["leakage"]:
            line["n_windows"] = windows
        for row in [row for rows in tables.values() for row in rows]:
            row["kl"] *= factor
        sizes = {"bits_stored": 4.0, "bits_entropy": 3.75, "saving": 0.06, "weights": 800, "bytes_linear": 416}
        tables["entropy"] = [{"model": SOURCE, "method": "gptq", "budget_bits": 4.0, "seed": 0} | sizes]
        write_tables(tmp_path / name / "records", tables)
        write_json(tmp_path / name / "config.json", {"study": "toy"})
        write_json(tmp_path / name / "metrics" / "m.leak-test-test" / "a.json", {"commit": name})
        return tmp_path / name

    counts = extend(toy, measured("one", 0), command="snakemake leakage entropy")
    assert (counts["leakage"], counts["leakage_windows"], counts["entropy"]) == (5, 5 * 12, 1)
    counts = extend(toy, measured("two", 0, 1))
    assert (counts["leakage"], counts["entropy"]) == (5, 0)
    assert read_json(toy / MANIFEST)["also"][0]["commits"] == ["one", "two"]
    with pytest.raises(RampError, match=r"leakage: .* is published from another bank"):
        extend(toy, measured("three", 1, factor=2))
    with pytest.raises(RampError, match=r"leakage\.csv would hold rows .* n_windows 12 and 4"):
        extend(toy, measured("four", 2, windows=4))


def test_every_table_of_a_study_has_the_command_that_made_it(toy: Path, tmp_path: Path) -> None:
    """Files beside mixes and rows over banks are of one study and of two runs: two entries, two configurations."""
    files = tmp_path / "files"
    write_tables(files / "records", gguf_records("a"))
    write_json(files / "config.json", {"study": "toy", "depth": "full"})
    extend(toy, files, "36 windows", "snakemake gguf")
    more = banks(tmp_path / "more", lambda row: row["bank_seed"] == 2)
    rows = read_table(more / "records" / "banks.csv").assign(commit="c")
    write_table(more / "records" / "banks.csv", rows)
    write_json(more / "config.json", {"study": "toy", "depth": "quick"})
    extend(toy, more, "6 windows", "snakemake banks")
    first, second = read_json(toy / MANIFEST)["also"]
    assert (first["command"], first["note"], first["tables"][0]) == ("snakemake gguf", "36 windows", "gguf.csv")
    assert (second["command"], second["note"], second["tables"][0]) == ("snakemake banks", "6 windows", "banks.csv")
    assert second["commits"] == ["b", "c"]
    assert read_json(toy / "config_toy.json")["depth"] == "full"
    assert read_json(toy / "config_toy_banks.json")["depth"] == "quick"


def test_rows_over_banks_of_another_depth_are_refused_and_nothing_is_written(toy: Path, tmp_path: Path) -> None:
    more = banks(tmp_path / "more", lambda row: row["bank_seed"] == 2)
    rows = read_table(more / "records" / "banks.csv").assign(n_windows=36)
    write_table(more / "records" / "banks.csv", rows)
    before = {path.name: path.read_bytes() for path in toy.iterdir()}
    with pytest.raises(RampError, match="n_windows 12 and 36"):
        extend(toy, more)
    assert {path.name: path.read_bytes() for path in toy.iterdir()} == before
