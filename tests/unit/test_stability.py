"""The benchmark of where two machines part: what it counts, beside what it holds each run, and the table it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import cholesky, second_moments
from benchmarks.stability import INSIDE, PLAIN_REPRODUCIBLE, VARIED, Found, Stages, difference, measure, put
from paper.study import Study
from paper.tables.render import to_markdown
from paper.tables.stability import stability_table
from ramp.calibration.__main__ import main as calibration
from ramp.calibration.fold_search import main as fold_search
from ramp.records.schema import STABILITY_ORDER
from ramp.records.table import read_table, write_table
from tests.synthetic_records import write_records
from tests.tiny_models import write_letters


def found(numbers: list[float], kl: float | None = None) -> Found:
    return Found(lambda: iter([("a", np.array(numbers[:2])), ("b", np.array(numbers[2:]))]), kl, 1.0)


def test_equal_runs_differ_in_nothing() -> None:
    nothing = {"codes_changed": 0.0, "largest_change": 0.0, "kl_change": 0.0}
    assert difference(found([1, 2, 3, 4], 0.1), found([1, 2, 3, 4], 0.1)) == nothing


def test_a_difference_is_counted_and_measured() -> None:
    seen = difference(found([1, 2, 3, 4], 0.1), found([1, 2, 3, 5], 0.11))
    assert seen == {"codes_changed": 0.25, "largest_change": 0.25, "kl_change": pytest.approx(0.1)}
    assert difference(found([1, 2, 3, 4]), found([1, 2, 3, 4]))["kl_change"] is None


def test_codes_are_read_array_by_array() -> None:
    """Those of SmolLM2's bank, all at once in float64, would take some 20 GB."""
    order: list[str] = []

    def arrays(side: str) -> Iterator[tuple[str, np.ndarray]]:
        for name in ("a", "b"):
            order.append(side + name)
            yield name, np.full(3, 250, dtype=np.uint8) if side == "1" else np.array([250, 250, 5], dtype=np.uint8)

    seen = difference(Found(lambda: arrays("1"), None, 1.0), Found(lambda: arrays("2"), None, 1.0))
    assert order == ["1a", "2a", "1b", "2b"]
    assert (seen["codes_changed"], seen["largest_change"]) == (pytest.approx(1 / 3), pytest.approx(245 / 250))


class Pretended:
    """Stages whose numbers depend on the arithmetic, and in fast arithmetic on the limits too."""

    model, made = "tiny", {}

    def __init__(self) -> None:
        self.read: list[tuple[str, Path]] = []

    def run(self, stage: str, given: dict[str, Path], folder: Path, limits: Any, options: list[str]) -> Found:
        if stage == "Cholesky":
            self.read.append((folder.name, given["second moments"]))
        given[stage] = folder / stage
        reproducible = "reproducible" in options
        return found([1, 2, 3, 9] if reproducible else [1, 2, 3, 5 + len(limits) + len(options)], 0.1)


def test_each_run_is_held_beside_a_plain_one_of_its_arithmetic(tmp_path: Path) -> None:
    """Equal bytes read 0 beside the plain reproducible run, and not beside the fast one."""
    stages = Pretended()
    rows = list(measure(cast(Stages, stages), VARIED, tmp_path))
    assert {row["stage"] for row in rows} == set(STABILITY_ORDER)
    assert set(INSIDE) <= set(STABILITY_ORDER)
    changed = {(row["varied"], row["baseline"]): row["codes_changed"] for row in rows}
    assert changed["reproducible, other limits", PLAIN_REPRODUCIBLE] == 0
    assert changed["reproducible, two threads", PLAIN_REPRODUCIBLE] == 0
    assert changed[PLAIN_REPRODUCIBLE, "plain"] == changed["oneDNN without AVX", "plain"] == 0.25
    assert {path.parent.name for _, path in stages.read} == {"plain"}, "the same inputs, as of the study's own files"
    alone = list(measure(cast(Stages, Pretended()), ["reproducible, other limits"], tmp_path))
    assert {(row["varied"], row["codes_changed"]) for row in alone} == {("reproducible, other limits", 0.0)}


def test_the_table_is_one_of_the_records(tmp_path: Path) -> None:
    """A row that is measured again takes the place of the old one; the page shows it, and files come again."""
    records = write_records(tmp_path / "records")
    file = records / "stability.csv"
    for row in measure(cast(Stages, Pretended()), VARIED, tmp_path):
        put(file, row)
        put(file, {**row, "kl_change": 0.5} if row["stage"] == "search" else row)
    table = read_table(file)
    assert len(table) == len(VARIED) * len(STABILITY_ORDER)
    assert set(table[table["stage"] == "search"]["kl_change"]) == {0.5}
    before = file.read_bytes()
    write_table(file, table)
    assert file.read_bytes() == before
    page = to_markdown(stability_table(Study.read(records)))
    assert "reproducible, other limits" in page
    assert "Cholesky" in page


def test_moments_and_factors_are_those_of_gptq(tiny_llama_dir: Path, tmp_path: Path) -> None:
    text = str(write_letters(tmp_path / "text.jsonl", 600))
    words = ["--model-dir", str(tiny_llama_dir), "--text", text, "--tokens", "128", "--length", "32"]
    fold, stats = tmp_path / "none.safetensors", tmp_path / "stats.safetensors"
    fold_search([*words, "--kind", "none", "--out", str(fold)])
    calibration([*words, "--out", str(stats)])
    moments, factors = tmp_path / "moments.safetensors", tmp_path / "factors.safetensors"
    assert second_moments.main([*words, "--fold", str(fold), "--out", str(moments)]) == 0
    assert cholesky.main(["--moments", str(moments), "--out", str(factors)]) == 0
    made, means = load_file(moments), load_file(stats)
    assert made
    for site, hessian in made.items():
        torch.testing.assert_close(hessian.diagonal(), means[f"{site}/sqmean"], rtol=1e-4, atol=1e-6)
        factor = load_file(factors)[site]
        assert torch.equal(factor, factor.triu())
        assert torch.equal(factor.diagonal(), torch.ones(len(factor)))
