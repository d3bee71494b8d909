"""The audit of stated sizes: against bytes counted by hand and against the table of the paper's own figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from paper.audit import WITHIN, accountings, main
from paper.tables.sizes import readings
from ramp.assets.registry import load_registry
from ramp.core.errors import RampError
from ramp.records.table import read_table
from ramp.study.model_shape import ModelShape, shape_of
from tests.refusals import refused

REPO = Path(__file__).resolve().parents[2]
ASSETS = REPO / "config" / "assets.yaml"
TINY = ModelShape("llama", 8, 16, 2, 2, 2, 10, 64)  # 2 * (4 * 64 + 3 * 128) = 1,280 weights in linears


def test_one_accounting_by_hand() -> None:
    stated = (1280 * (4 + 20 / 128) / 8 + 2 * 80 * 2 + 2 * 5 * 8) / 1e9
    [line] = [x for x in accountings("tiny", TINY, 4.0, stated) if "AWQ" in x.accounting and "fp16; GB" in x.accounting]
    assert line.fits
    assert line.bits_of_it == pytest.approx(4.0)
    nearest = next(accountings("tiny", TINY, 4.0, stated))
    assert nearest.accounting == line.accounting
    assert not any(x.fits for x in accountings("tiny", TINY, 4.0, 100 * stated))


def test_a_tied_head_is_counted_once() -> None:
    tied = ModelShape("llama", 8, 16, 2, 2, 2, 10, 64, tie_word_embeddings=True)
    sizes = {x.accounting: x.gb_of_it for x in accountings("tied", tied, 16.0, 1e-6)}
    both = {x.accounting: x.gb_of_it for x in accountings("both", TINY, 16.0, 1e-6)}
    assert all(sizes[name] <= size for name, size in both.items())


def test_the_papers_own_figures() -> None:
    """As the table of sizes has them: 3.68 GB with fp16 zeros, 3.90 GB with packed ones, and no way gives both."""
    shape = shape_of("llama-2-7b", load_registry(ASSETS), REPO / "no results")
    fits = [
        {x.accounting for x in accountings("llama-2-7b", shape, *pair) if x.fits} for pair in ((3.65, 3.68), (4, 3.9))
    ]
    assert any("fp16 zero per 128" in name for name in fits[0])
    assert any("AWQ packing" in name for name in fits[1])
    assert not fits[0] & fits[1]
    table = {round(reading.gigabytes()[0], 3) for reading in readings()}
    audited = [round(x.gb_of_it, 3) for x in accountings("llama-2-7b", shape, 3.65, 3.68)]
    assert len(table & {*audited}) == 3  # those of no K-quants whose norms are in 16 bits


def test_the_command_writes_what_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stated = ["--model", "llama-2-7b", "--bits", "3.65", "4", "--gb", "3.68", "3.9", "--registry", str(ASSETS)]
    main([*stated, "--results", str(tmp_path), "--csv", str(tmp_path / "audit.csv")])
    assert "all of them at once: no way of counting" in capsys.readouterr().out
    published = REPO / "results" / "published" / "audit.csv"
    assert (tmp_path / "audit.csv").read_bytes() == published.read_bytes()
    rows = read_table(published)
    assert ((rows["gb_of_it"] / rows["gb"] - 1).abs() <= WITHIN + 1e-4)[rows["fits"]].all()


def test_faults_of_the_command_line(tmp_path: Path) -> None:
    base = ["--registry", str(ASSETS), "--results", str(tmp_path), "--model"]
    calls = {
        "one size for each": lambda: main([*base, "llama-2-7b", "--bits", "3", "4", "--gb", "3"]),
        "llama-9": lambda: main([*base, "llama-9", "--bits", "3", "--gb", "3"]),
    }
    refused(RampError, calls)
