"""The measurement on a card, rehearsed with tiny sizes on a processor and on a pretended GPU; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import on_card
from benchmarks.alike_blocks import AlikeBlocks, BankOfAlikeBlocks
from benchmarks.comparison_files import ComparisonFiles
from benchmarks.measure import BenchmarkError, Sample
from benchmarks.on_card import CANDIDATES, SMALL, OnCard
from benchmarks.records import main as records_main
from ramp.bank.build import build_bank
from ramp.core import cli
from ramp.core.provenance import processor
from ramp.models.architecture import list_linears
from ramp.plan.work import Work, cost
from ramp.records.table import read_table
from tests.conftest import REPO
from tests.plans import files_of, plan_of
from tests.sealed import read_json

MEASURED = (
    "calibration of one block", "bank at 4 widths of one block", "GPTQ at 4 bits of one block",
    "AWQ's search of one block", "candidates of 256 tokens, whole new", "candidates of 256 tokens, from block 1 on",
    "reference of 1024 tokens", "evaluation of a row on 1024 tokens", "tasks, 4 requests of 34 tokens",
)  # fmt: skip


def words(folder: Path, name: str, *more: str) -> list[str]:
    small = ["--shape", "small", "--device", "cpu", "--threads", "1"]
    return [*small, "--folder", str(folder), "--out", str(folder / name), *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the piece of a rehearsal, and nothing else."""
    made = tmp_path_factory.mktemp("card")
    assert on_card.main(words(made, "rehearsal.json")) == 0
    assert [each.name for each in made.iterdir()] == ["rehearsal.json"]
    return made


def test_every_figure_stands_beside_the_plans_and_says_what_it_is(folder: Path) -> None:
    piece = read_json(folder / "rehearsal.json")
    rows, detail = piece["rows"], piece["detail"]
    names = [each["benchmark"].partition(": ")[2] for each in rows]
    for what in MEASURED:
        found = [name for name in names if name.startswith(what)]
        assert [name.endswith("peak memory of the host; reference: the plan") for name in found] == [False, True], what
    assert len(rows) == 2 * len(MEASURED)
    for each in rows:
        assert each["benchmark"].startswith(f"small shape, random weights, on {processor()}: ")
        assert "rehearsal" in each["note"]
        assert each["ours"] > 0
        assert each["reference"] > 0
        assert each["ratio"] == each["ours"] / each["reference"]
    assert detail["planned for"] == "cpu"
    assert (detail["skipped"], detail["failed"]) == ([], {})
    run = [detail[f"blocks run, {what}"] for what in ("whole new", "from block 1 on")]
    assert run == [CANDIDATES * SMALL.layers, CANDIDATES * (SMALL.layers - 1)]


def test_a_rehearsal_becomes_a_table_and_never_the_cards_piece(folder: Path, tmp_path: Path) -> None:
    def merge(piece: Path) -> Path:
        out = tmp_path / "benchmarks.csv"
        assert records_main(["--table", "benchmarks", "--pieces", str(piece), "--out", str(out)]) == 0
        return out

    assert len(read_table(merge(folder / "rehearsal.json"))) == 2 * len(MEASURED)
    named = tmp_path / "on_card.json"
    named.write_bytes((folder / "rehearsal.json").read_bytes())
    with pytest.raises(BenchmarkError, match=r"--shape small.*--shape 7B"):
        merge(named)


def test_benchmarks_of_any_machine_ask_for_no_card() -> None:
    pieces = ComparisonFiles(files_of(plan_of("smoke.yaml"))).of_table("benchmarks")
    assert any(each.endswith("/memory.json") for each in pieces)
    assert not any("on_card" in each for each in pieces)


@pytest.mark.parametrize("asked", [[], ["--device", "cpu"], ["--shape", "small"]])
def test_without_a_card_it_ends_with_one_sentence(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.run(on_card.main, [*asked, "--out", str(tmp_path / "piece.json")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--device cpu" in said.err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(tmp_path: Path) -> OnCard:
    return OnCard(on_card.arguments().parse_args(words(tmp_path, "piece.json")), tmp_path)


def test_a_figure_is_compared_with_the_plans_without_a_start(small: OnCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_card, "timed", lambda run: Sample(cpu_s=2.0, wall_s=3.0, value=run()))
    work = Work(moved=4e9, uses_gpu=True)
    shapes = [facts.shape(small.source) for facts in (small.block, small.whole)]
    assert [(each.num_hidden_layers, each.float_bytes) for each in shapes] == [(1, 2), (SMALL.layers, 2)]
    assert small.measure("x", work, lambda: "found", times=3, rate=(12, "tokens")) == "found"
    speed, memory = small.piece.rows
    planned = cost(replace(work, fixed_s=0.0), small.costs.device, small.costs.core)
    assert (speed["ours"], speed["unit"]) == (6.0, "tokens/processor s")
    assert speed["reference"] == pytest.approx(12 / (3 * planned.seconds))
    assert planned.seconds < cost(work, small.costs.device, small.costs.core).seconds
    assert (memory["reference"], memory["unit"]) == (planned.host_bytes, "bytes")


def test_what_fails_or_comes_too_late_leaves_the_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def instead(name: str, work: Callable[[OnCard], object]) -> None:
        def part(self: OnCard) -> None:
            work(self)

        part.__name__ = name
        monkeypatch.setattr(OnCard, name, part)

    def fail(self: OnCard) -> None:
        assert len(read_json(tmp_path / "piece.json")["rows"]) == 1  # written before this part began
        raise RuntimeError("out of memory")

    instead("calibrated", lambda self: self.add("first", 1.0, 2.0, "s"))
    instead("banked", fail)
    instead("row", lambda self: (self.add("third", 1.0, 2.0, "s"), setattr(self, "began", self.began - 3600)))
    with pytest.raises(BenchmarkError, match="banked failed"):
        on_card.main(words(tmp_path, "piece.json"))
    piece = read_json(tmp_path / "piece.json")
    assert [each["benchmark"].partition(": ")[2].partition(";")[0] for each in piece["rows"]] == ["first", "third"]
    assert piece["detail"]["failed"] == {"banked": "RuntimeError: out of memory"}
    assert piece["detail"]["skipped"] == ["awq", "candidates", "evaluation", "tasks"]


def test_blocks_are_alike_and_each_has_weights_of_its_own(tmp_path: Path) -> None:
    random = AlikeBlocks(tmp_path / "model", replace(SMALL, layers=3), seed=0)
    build_bank(
        random.folder.path, None, tmp_path / "bank", fold={}, fold_name="none", quantizer="rtn", widths=[3, 4],
        group_size=128, device="cpu",
    )  # fmt: skip
    model: Any = random.whole(torch.float32, torch.device("cpu"))
    bank = BankOfAlikeBlocks(tmp_path / "bank", list_linears(model.config))
    assert bank.bytes().shape == (21, 2)
    weights = [block.mlp.down_proj.weight for block in model.model.layers]
    stored = random.folder.reader.get("model.layers.0.mlp.down_proj.weight").float()
    assert all(torch.equal(each, stored) for each in weights)
    choice = np.zeros(21, dtype=np.int64)
    choice[7:14] = 1
    assert bank.assemble(model, choice) == 21
    assert torch.equal(weights[0], weights[2])
    errors = [float((each - stored).square().sum()) for each in weights]
    assert 0 < errors[1] < errors[0] / 2


def test_a_word_is_a_token(tmp_path: Path) -> None:
    random = AlikeBlocks(tmp_path / "model", SMALL, seed=0)
    ids = random.folder.tokenizer()(random.words(50), add_special_tokens=False)["input_ids"]
    assert len(ids) == 50
    assert min(ids) >= 3
    assert len(random.folder.tokenizer()) == SMALL.vocab


def test_no_part_mixes_devices(tmp_path: Path) -> None:
    commands, results = tmp_path / "commands.json", tmp_path / "results.json"
    commands.write_text(json.dumps([["benchmarks.on_card", *words(tmp_path, "piece.json", "--device", "pgpu:0")]]))
    line = [sys.executable, "-m", "tests.pretended_gpu", str(commands), str(results)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(line, cwd=REPO, env=environment, check=True, capture_output=True, text=True)
    assert read_json(results) == [""]
    assert len(read_json(tmp_path / "piece.json")["rows"]) == 2 * len(MEASURED)
