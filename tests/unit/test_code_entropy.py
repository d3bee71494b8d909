"""The entropy of a row's codes: against scipy, on a packed row, as a table and in the ledger of bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from paper.tables.ledger import ledger_table
from ramp.core.atomic_files import write_json
from ramp.core.errors import RampError
from ramp.quantizers.packing import unpack_rows
from ramp.records.collect_entropy import main as collect_main
from ramp.records.table import RecordsError, read_table
from ramp.rows.checkpoint import open_packed
from ramp.rows.code_entropy import entropy_of, row_entropy
from tests.plans import files_of, plan_of
from tests.rows import write_row
from tests.sealed import read_json
from tests.synthetic_records import SOURCE, cells, synthetic_study


def test_of_one_value_of_equal_shares_and_of_scipy() -> None:
    codes = torch.arange(16, dtype=torch.uint8).repeat(3, 5)
    assert entropy_of(torch.full((4, 4), 7, dtype=torch.uint8)) == 0
    assert entropy_of(codes) == pytest.approx(4, abs=1e-12)
    drawn = np.random.default_rng(0).binomial(15, 0.4, (40, 90)).astype(np.uint8)
    expected = stats.entropy(np.bincount(drawn.ravel()), base=2)
    assert entropy_of(torch.from_numpy(drawn)) == pytest.approx(expected, abs=1e-12)


def test_of_a_row_is_that_of_its_linears_weighted_by_weights(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Each linear's own histogram: one at 3 bits is not mixed with those at 4. And the table says the same."""
    meta = write_row(tmp_path / "row", tiny_llama_dir)
    tensors, header = open_packed(tmp_path / "row", meta)
    bits = weights = stored = 0.0
    for name, spec in header["linears"].items():
        codes = unpack_rows(tensors[f"{name}.codes"], spec["bits"], spec["d_in"]).numpy()
        bits += codes.size * stats.entropy(np.bincount(codes.ravel()), base=2)
        stored += codes.size * spec["bits"]
        weights += codes.size
    found = row_entropy(tmp_path / "row")
    assert found.bits_entropy == pytest.approx(bits / weights, abs=1e-12)
    assert (found.bits_stored, found.weights) == (pytest.approx(stored / weights), weights)
    assert 3 < found.bits_entropy < found.bits_stored < 4
    assert collect_main(["--rows", str(tmp_path / "row" / "meta.json"), "--out", str(tmp_path)]) == 0
    [line] = read_table(tmp_path / "entropy.csv").to_dict("records")
    assert line["bits_entropy"] == pytest.approx(bits / weights, abs=1e-9)
    assert line["saving"] == pytest.approx((stored - bits) / 8 / meta["bytes_linear"], abs=1e-9)


def test_no_row_and_a_damaged_one_are_refused(tiny_llama_dir: Path, tmp_path: Path) -> None:
    write_row(tmp_path / "row", tiny_llama_dir)
    with pytest.raises(RecordsError, match="name at least one"):
        collect_main(["--out", str(tmp_path)])
    meta = read_json(tmp_path / "row" / "meta.json")
    write_json(tmp_path / "row" / "meta.json", meta | {"sha256": "0" * 64}, sealed=True)
    with pytest.raises(RampError, match=r"model\.safetensors"):
        row_entropy(tmp_path / "row")


def test_every_packed_row_of_a_study_is_read() -> None:
    plan = plan_of("smoke.yaml")
    files = files_of(plan).coded("meta.json")
    assert f"results/smoke/quantized/{plan.study.source}/knapsack-b3.65-s0/meta.json" in files
    assert not [file for file in files if "float" in file or "-ggml" in file]
    assert len(files) == len(files_of(plan).coded("model.safetensors")) == len(set(files))


def test_the_ledger_shows_it_where_it_was_measured() -> None:
    name = {"model": SOURCE, "method": "awq_gptq", "budget_bits": 4.0, "seed": 0}
    own = synthetic_study().one(SOURCE, "awq_gptq", 4.0)
    assert own is not None
    sizes = {"bits_stored": 4.0, "bits_entropy": 3.75, "saving": 0.06, "weights": 800}
    sizes["bytes_linear"] = int(own.records["bytes_linear"].iloc[0])
    elsewhere = sizes | {"bytes_linear": sizes["bytes_linear"] - 8, "bits_entropy": 1.0}
    table = ledger_table(synthetic_study({"entropy": [name | sizes, name | elsewhere | {"seed": 1}]}), SOURCE)
    [row] = [row.cells for row in table.rows if row.cells.get("entropy") is not None]
    assert (row["codes"], row["entropy"], row["saving"]) == (4.0, 3.75, 0.06)
    assert "lossless coder" in " ".join(table.footnotes)
    without = ledger_table(synthetic_study(), SOURCE)
    assert not {"codes", "entropy", "saving"} & {column.key for column in without.columns}
    assert "lossless" not in " ".join(without.footnotes)
    assert cells(without, row=row["row"])
