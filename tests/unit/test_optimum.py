"""The enumeration against the whole model in float64 and against brute force; resume; allocators' gaps."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.bank.bank import Bank
from ramp.methods.loader import load_method
from ramp.models.architecture import list_linears
from ramp.models.token_windows import token_windows
from ramp.optimum.__main__ import main as optimum_main
from ramp.optimum.enumerate import enumerate_all
from ramp.optimum.half_blocks import HalfBlocks
from ramp.optimum.run import Enumeration, rows_of
from ramp.optimum.run import main as run_main
from ramp.optimum.units import OptimumError, averaged, make_units, parse
from ramp.search.journal import ROOT
from tests.model_folders import load_float, load_tokenizer, read_config
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.searchable import make_searchable
from tests.tiny_models import exact_scores

WIDTHS, WINDOWS, LENGTH = [3, 4, 6], 3, 24


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> Path:
    """A bank, statistics, sensitivities and search text of ``tiny_llama_dir``."""
    folder = tmp_path_factory.mktemp("optimum")
    make_searchable(folder, tiny_llama_dir, [3, 4, 5, 6])
    return folder


def enumerated(small: Path, model: Path, out: Path, units: str) -> Enumeration:
    """One enumeration by the command line."""
    options: dict[str, Any] = {
        "--model-dir": model, "--bank": small / "bank", "--fold": small / "none.safetensors",
        "--calibration": small / "stats.safetensors", "--text": small / "search.jsonl", "--windows": WINDOWS,
        "--length": LENGTH, "--units": units, "--state-dir": out / "state", "--out": out / f"{units}.json",
    }  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    assert optimum_main([*words, "--widths", *map(str, WIDTHS)]) == 0
    assert not [*(out / "state").glob("*")]  # a finished enumeration leaves no state
    return Enumeration.read(out / f"{units}.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where ``halves`` lies."""
    return tmp_path_factory.mktemp("halves")


@pytest.fixture(scope="module")
def halves(small: Path, tiny_llama_dir: Path, folder: Path) -> Enumeration:
    return enumerated(small, tiny_llama_dir, folder, "halves-3")


@pytest.mark.parametrize("units", ["halves-3", "linears-3"])
def test_scores_are_those_of_the_whole_model_in_float64(
    units: str, small: Path, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    table = enumerated(small, tiny_llama_dir, tmp_path, units)
    assert table.kl.shape == (3, 3, 3)
    windows = token_windows(load_tokenizer(tiny_llama_dir), small / "search.jsonl", length=LENGTH, count=WINDOWS)
    bank = Bank(small / "bank")
    for choice in [(2, 0, 1), (1, 2, 2)]:
        pairs = zip(table.about.members, choice, strict=True)
        weights = {m.name: bank.dequantize(m.name, WIDTHS[index]) for unit, index in pairs for m in unit}
        kl, nll = (float(x.mean()) for x in exact_scores(load_float(tiny_llama_dir), windows, weights))
        assert table.kl[choice] == pytest.approx(kl, rel=1e-3)
        assert table.nll[choice] == pytest.approx(nll, rel=1e-5)
    assert len(np.unique(table.kl)) == 27
    model_name = tiny_llama_dir.name
    asked = f"--units {units} --windows {WINDOWS} --length {LENGTH} --widths 3 4 6"
    paths = f"--bank R/bank/{model_name}/bank --fold R/folds/{model_name}/none.safetensors"
    read = f"--calibration R/calibration/{model_name}.safetensors --text R/texts/search.jsonl"
    left = f"--state-dir R/.state --out R/optimum/{model_name}/{units}.json"
    whole = f"--model-dir R/models/{model_name} {paths} {read} {asked} {left}"
    assert table.about.command == f"python -m ramp.optimum {whole}"


def test_units_are_the_last_ones_and_their_sizes_are_their_members(halves: Enumeration, small: Path) -> None:
    names = [[member.name.split(".", 2)[2] for member in unit] for unit in halves.about.members]
    attention, mlp = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    assert names[0] == [f"0.mlp.{x}" for x in mlp]
    assert names[1] == [f"1.self_attn.{x}" for x in attention]
    assert names[2] == [f"1.mlp.{x}" for x in mlp]
    bank = Bank(small / "bank")
    sizes = dict(zip([x.name for x in bank.linears], bank.bytes()[:, [0, 1, 3]], strict=True))
    assert halves.sizes.tolist() == [sum(sizes[m.name] for m in unit).tolist() for unit in halves.about.members]
    assert [unit.role for unit in halves.about.linears] == ["down", "o", "down"]
    total = halves.total_bytes()
    assert total[2, 0, 1] == halves.sizes[0, 2] + halves.sizes[1, 0] + halves.sizes[2, 1]


def test_the_optimum_is_the_brute_force_one_and_gaps_are_measured_from_it(halves: Enumeration, small: Path) -> None:
    budget = halves.budget(4)
    feasible = {
        choice: halves.kl[choice]
        for choice in itertools.product(range(3), repeat=3)
        if sum(halves.sizes[i, a] for i, a in enumerate(choice)) <= budget
    }
    assert 1 < len(feasible) < 27
    for name, evals in (("knapsack", 1), ("random_search", 27)):
        method = load_method(ROOT / "baselines" / f"{name}.py")
        (row,) = rows_of(
            halves, method, method.params(), bits=4.0, seed=0, checkpoints=[27], sensitivity=small / "proxy.json"
        )
        assert row["kl_optimum"] == min(feasible.values())
        assert row["allocations"] == len(feasible)
        assert (row["spent"], row["evals"]) == (evals, evals)
        assert row["gap"] == row["kl"] - row["kl_optimum"] >= 0
        assert row["better"] == sum(kl < row["kl"] for kl in feasible.values())


def test_additivity_compares_single_units_with_all_of_them(
    halves: Enumeration, folder: Path, small: Path, tiny_llama_dir: Path
) -> None:
    rows = {row["bits"]: row for row in read_json(folder / "halves-3.json")["additivity"]}
    assert set(rows) == set(WIDTHS)
    for index, bits in enumerate(WIDTHS):
        assert rows[bits]["kl_joint"] == halves.kl[index, index, index]
        assert rows[bits]["ratio"] == pytest.approx(rows[bits]["kl_joint"] / rows[bits]["kl_sum"])
    assert rows[3]["kl_sum"] > rows[4]["kl_sum"] > rows[6]["kl_sum"] > 0
    single = chain_of(small, tiny_llama_dir).score([0, None, None])[0]
    assert 0 < single < rows[3]["kl_sum"]


def chain_of(small: Path, model_dir: Path) -> HalfBlocks:
    bank = Bank(small / "bank")
    windows = token_windows(load_tokenizer(model_dir), small / "search.jsonl", length=LENGTH, count=WINDOWS)
    units = make_units(list_linears(read_config(model_dir)), "halves-3")
    return HalfBlocks(load_float(model_dir), bank, units, WIDTHS, windows)


def test_a_killed_enumeration_goes_on_and_scores_nothing_twice(
    small: Path, tiny_llama_dir: Path, halves: Enumeration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramp.optimum.enumerate.SAVE_EVERY_S", -1.0)
    chain, measured = chain_of(small, tiny_llama_dir), [0]
    measure = chain.measure

    def mortal(x: torch.Tensor) -> tuple[float, float]:
        if measured[0] == 10:
            measured[0] += 1
            raise KeyboardInterrupt
        measured[0] += 1
        return measure(x)

    monkeypatch.setattr(chain, "measure", mortal)
    with pytest.raises(KeyboardInterrupt):
        enumerate_all(chain, 3, 3, tmp_path / "kept.npy")
    kl, _ = enumerate_all(chain, 3, 3, tmp_path / "kept.npy")
    assert measured[0] == 28  # 27 and the one that died
    np.testing.assert_array_equal(kl, halves.kl)


def test_the_command_writes_every_budget_and_seed(halves: Enumeration, small: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    from ramp.optimum.enumerate import write_scores

    write_sealed(index, asdict(halves.about))
    write_scores(index.with_suffix(".safetensors"), halves.kl, halves.nll)
    words = ["--enumeration", index, "--sensitivity", small / "proxy.json", "--out", tmp_path / "runs.json"]
    words += ["--method-file", ROOT / "baselines" / "random_search.py", "--budgets", 3.5, 4, "--seeds", 0, 1]
    words += ["--checkpoints", 3, 9, "--name", "draws", "--title", "Draws"]
    assert run_main([str(word) for word in words]) == 0
    rows = read_json(tmp_path / "runs.json")["rows"]
    assert len(rows) == 2 * 2 * 2
    assert {row["allocator"] for row in rows} == {"draws"}
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["evals"], second["evals"]) == (3, 9)
        assert second["kl"] <= first["kl"]
    (index.with_suffix(".safetensors")).unlink()
    with pytest.raises(ValueError, match="scores"):
        run_main([str(word) for word in words])


def test_faults_are_one_sentence(tiny_llama_dir: Path) -> None:
    linears = list_linears(read_config(tiny_llama_dir))
    calls = {"4 halves": lambda: make_units(linears, "halves-8"), "linears-N": lambda: parse("blocks-3")}
    refused(OptimumError, calls)
    units = make_units(linears, "halves-4")
    assert sum(unit.spec.params for unit in units) == sum(linear.params for linear in linears)
    assert averaged(units, np.ones((len(linears), 2))).tolist() == [[1.0, 1.0]] * 4
