"""The benchmark of evaluations on tiny shapes: what it evaluates, and that both sides score alike."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import evaluation
from benchmarks.evaluation import Naive, Subject, allocations, measure, single_changes
from benchmarks.measure import BenchmarkError
from benchmarks.shapes import BlockShape, write_checkpoint
from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from tests.model_folders import load_float
from tests.sealed import read_json
from tests.tiny_models import exact_scores

TINY = BlockShape(hidden=64, intermediate=128, heads=2, kv_heads=2, layers=2, vocab=48)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("evaluation")
    write_checkpoint(folder / "model", TINY, seed=0)
    build_bank(
        folder / "model", None, folder / "bank", fold={}, fold_name="none", quantizer="rtn", widths=[2, 3, 4],
        group_size=32, device="cpu",
    )  # fmt: skip
    windows = torch.randint(0, TINY.vocab, (5, 16), generator=torch.Generator().manual_seed(1))
    return Subject("tiny", folder / "model", {}, Bank(folder / "bank"), windows)


def arguments(**changed: Any) -> Any:
    made = vars(evaluation.arguments().parse_args(["--out", "piece.json"]))
    given = {"device": "cpu", "dtype": "float32", "evals": 3, "seed": 0, "threads": 1, "resident_bytes": 1 << 30}
    return SimpleNamespace(**{**made, **given, **changed})


def test_the_naive_loop_is_the_textbook_divergence(subject: Subject) -> None:
    choice = next(allocations(subject.bank, 1, seed=3))
    picked = zip(subject.bank.linears, choice, strict=True)
    weights = {x.name: subject.bank.dequantize(x.name, subject.bank.widths[index]) for x, index in picked}
    expected = float(exact_scores(load_float(subject.model_dir), subject.windows, weights)[0].mean())
    assert Naive(subject, torch.device("cpu"), batch=2)(choice) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_sides_score_the_same_candidates(subject: Subject, dtype: str) -> None:
    piece = measure(arguments(dtype=dtype), subject)
    speeds, scores = piece.rows[::2], piece.rows[1::2]
    assert [("whole" in r["benchmark"], "one linear" in r["benchmark"]) for r in speeds] == [
        (True, False),
        (False, True),
    ]
    assert all(r["ours"] > 0 and r["reference"] > 0 and r["unit"] == "evaluations/min" for r in speeds)
    for found in scores:
        assert found["ratio"] == pytest.approx(1, rel=1e-4 if dtype == "float32" else 0.05)
        assert found["reference"] > 1e-4
    if dtype == "float32":
        assert all(r["note"].endswith(": equal to 3 digits") for r in scores)
    for case in ("whole new allocations", "one linear changed"):
        ours, reference = piece.detail[f"{case}, scores"]
        assert len(ours) == len(reference) == 3
        assert len({round(kl, 9) for kl in reference}) == 3


def test_a_difference_in_the_fourth_digit_is_told(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Naive.__call__
    monkeypatch.setattr(Naive, "__call__", lambda self, choice: 1.01 * plain(self, choice))
    assert all("not equal to 3 digits" in r["note"] for r in measure(arguments(), subject).rows[1::2])


def test_single_changes_are_spread_over_the_linears(subject: Subject) -> None:
    base = np.zeros(14, dtype=np.int64)
    places = [np.flatnonzero(changed) for changed in single_changes(subject.bank, base, 7)]
    assert sorted(int(place[0]) for place in places) == [1, 3, 5, 7, 9, 11, 13]
    assert all(len(place) == 1 for place in places)
    assert not base.any()


def test_a_shape_needs_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "SHAPES", {"tiny": TINY})
    argv = ["--shape", "tiny", "--device", "cpu", "--tokens", "64", "--length", "16", "--evals", "2"]
    argv += ["--widths", "3", "4", "--group-size", "32", "--folder", str(tmp_path), "--out", str(tmp_path / "e.json")]
    assert evaluation.main(argv) == 0
    rows = read_json(tmp_path / "e.json")["rows"]
    assert [(r["ours"] > 0, r["reference"], r["ratio"]) for r in rows] == [(True, None, None)] * 2
    assert [each.name for each in tmp_path.iterdir()] == ["e.json"]
    with pytest.raises(BenchmarkError, match="hold no window"):
        evaluation.main([*argv, "--length", "65"])
