"""Pieces of benchmarks as tables: what is refused, and commands that anyone can type."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import causes
from benchmarks.causes import CAUSES, LIMIT, MARK, explained, wants_cause
from benchmarks.measure import BenchmarkError, Piece, command_line, row
from benchmarks.plan import PIECES, pieces_of
from benchmarks.records import gather, options_of
from benchmarks.records import main as records_main
from paper.values import PARITY_LIMIT
from ramp.records.table import RecordsError, read_table
from tests.sealed import read_json

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"

PLAN_FILES = {
    "model": "results/models/m", "text": "results/texts/calibration.jsonl", "heldout": "results/texts/heldout.jsonl",
    "package": "baselines/gptqmodel_gptq.py", "python": ".envs/gptqmodel/bin/python",
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_a_recorded_command_is_read_by_its_module_as_it_was_given(name: str) -> None:
    """Every option of the plan's command line comes back, required ones included."""
    module = importlib.import_module(f"benchmarks.{PIECES[name].module}")
    typed = PIECES[name].command(PLAN_FILES)[3:]
    args = module.arguments().parse_args([*typed, "--threads", "1", "--out", f"results/compared/{name}.json"])
    recorded = command_line(f"benchmarks.{PIECES[name].module}", args)
    again = module.arguments().parse_args(shlex.split(recorded)[3:])
    assert again == args
    assert options_of(typed).items() <= options_of(shlex.split(recorded)).items()


def test_pieces_become_a_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Piece("benchmarks", [row(name, 1.0, 2.0, "s", "cmd")]).write(tmp_path / f"{name}.json")
    pieces = [str(tmp_path / f"{name}.json") for name in ("b", "a")]
    out = tmp_path / "benchmarks.csv"
    assert records_main(["--table", "benchmarks", "--pieces", *pieces, "--out", str(out)]) == 0
    frame = read_table(out)
    assert frame["benchmark"].tolist() == ["a", "b"]
    assert frame["ratio"].tolist() == [0.5, 0.5]
    versions = read_json(tmp_path / "a.json")["detail"]["versions"]
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__


def test_wrong_and_double_pieces_are_told(tmp_path: Path) -> None:
    Piece("parity", []).write(tmp_path / "p.json")
    with pytest.raises(BenchmarkError, match="no piece"):
        gather("benchmarks", [tmp_path / "p.json"])
    Piece("benchmarks", [row("a", 1.0, 2.0, "s", "cmd")]).write(tmp_path / "a.json")
    twice = ["--pieces", str(tmp_path / "a.json"), str(tmp_path / "a.json"), "--out", str(tmp_path / "benchmarks.csv")]
    with pytest.raises(RecordsError, match="two rows"):
        records_main(["--table", "benchmarks", *twice])


def planned_piece(folder: Path, name: str, options: str) -> Path:
    """A piece of the plan with one row, measured with ``options``."""
    file, module = folder / f"{name}.json", PIECES[name].module
    Piece("benchmarks", [row(f"a row of {name}", 1.0, 2.0, "s", f"python -m benchmarks.{module} {options}")]).write(
        file
    )
    return file


def test_a_planned_piece_gets_the_target_that_makes_it(tmp_path: Path) -> None:
    own = tmp_path / "mine.json"
    Piece("benchmarks", [row("mine", 1.0, 2.0, "s", "python -m benchmarks.bank --out mine.json")]).write(own)
    planned = planned_piece(tmp_path, "gptq_block_7b_act_order", "--bits 4 --act-order --repeats 3")
    found = {each["benchmark"]: each["command"] for each in gather("benchmarks", [own, planned])}
    target = "results/compared/gptq_block_7b_act_order.json"
    assert found["a row of gptq_block_7b_act_order"] == f"snakemake --cores all {target}"
    assert found["mine"] == "python -m benchmarks.bank --out mine.json"
    (smoke,) = gather("benchmarks", [planned], "results/smoke", ["config/smoke.yaml"])
    assert smoke["command"].endswith(f" results/smoke{target.removeprefix('results')} --configfile config/smoke.yaml")


def test_a_piece_that_the_target_would_not_make_again_is_refused(tmp_path: Path) -> None:
    for options, said in (("--bits 4", "no --act-order"), ("--act-order yes", "--act-order yes")):
        with pytest.raises(BenchmarkError, match=said):
            gather("benchmarks", [planned_piece(tmp_path, "gptq_block_7b_act_order", options)])
    file = planned_piece(tmp_path, "memory", "")
    file.rename(tmp_path / "bank.json")
    with pytest.raises(BenchmarkError, match=r"benchmarks\.bank"):
        gather("benchmarks", [tmp_path / "bank.json"])


@pytest.mark.parametrize("table", ["benchmarks", "parity"])
def test_published_commands_are_targets_of_the_plan(table: str) -> None:
    """No two of them for rows of one key, no path of a machine; that Snakemake plans them is tested in workflow/."""
    frame = read_table(PUBLISHED / f"{table}.csv")
    known = {f"snakemake --cores all results/compared/{name}.json" for name in pieces_of(table)}
    assert set(frame["command"]) <= known
    assert set(pieces_of("benchmarks")) | set(pieces_of("parity")) == set(PIECES)
    if table == "parity":
        assert frame.groupby("command")["method"].nunique().max() == 1
        assert frame.groupby("command")["reference"].nunique().max() == 1


def parity_row(**other: Any) -> dict[str, Any]:
    """A row of parity.csv that wants no cause."""
    return {
        "method": "gptq", "reference": "gptqmodel 7.6.0", "model": "m", "bits": 3, "group_size": 64, "symmetric": True,
        "settings": "equal", "ratio": 1.0, "error_ratio": 1.0, "note": "seen",
    } | other  # fmt: skip


def test_a_cause_stands_behind_a_row_that_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "CAUSES", {("m", "gptq", "gptqmodel", 3, 64, True): "its grids"})
    assert explained(parity_row(ratio=1.03))["note"] == "seen; cause: its grids"
    assert explained(parity_row(error_ratio=1.03, note=""))["note"] == "cause: its grids"
    for other in ({}, {"ratio": 1.02, "error_ratio": 0.5}, {"ratio": 2.0, "settings": "damping 0.05"},
                  {"ratio": 2.0, "group_size": 128},
                  {"ratio": 2.0, "bits": 4}, {"ratio": None, "error_ratio": None}):  # fmt: skip
        assert explained(parity_row(**other))["note"] == "seen"
    assert PARITY_LIMIT == LIMIT


def test_published_parity_is_within_two_per_cent_or_names_its_cause() -> None:
    """And no cause is kept of a difference that is gone."""
    rows = read_table(PUBLISHED / "parity.csv").to_dict("records")
    equal = [each for each in rows if each["settings"] == "equal"]
    assert {each["method"] for each in equal} == {"gptq", "awq"}
    for each in equal:
        measured = each["ratio"] > 0 and each["error_ratio"] > 0
        assert measured or each["note"], each
        assert wants_cause(each) == (MARK in each["note"]), each
    assert sum(MARK in each["note"] for each in equal) == len(CAUSES)
