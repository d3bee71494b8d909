"""A menu of bits and group sizes through bank, sensitivities, search, final quantizer, records and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.allocators import knapsack
from ramp.bank.__main__ import main as bank_main
from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from ramp.calibration.windows import calibration_windows
from ramp.export.plan import plan_tensors
from ramp.export.write import export
from ramp.models.architecture import list_linears
from ramp.models.token_windows import Document, write_documents
from ramp.problem.allocation import read_allocation, record_allocation, write_allocation
from ramp.problem.budget import AllocationError, budget_bytes
from ramp.problem.problem import Problem
from ramp.problem.proxy import read_proxy
from ramp.quantizers.sizes import bits_nominal, linear_bytes
from ramp.quantizers.widths import bits_of, group_of
from ramp.records.collect_layers import allocation_rows, reported_rows
from ramp.rl.policy import Policy, PolicyError, load_policy
from ramp.rows import quantize as quantize_stage
from ramp.rows.checkpoint import load_dequantized
from ramp.rows.meta_file import read_meta
from ramp.search.results import summary
from ramp.search.trained_policy import transfer
from ramp.sensitivity import __main__ as sensitivity
from tests.gguf_inputs import allocation_of, statistics
from tests.model_folders import read_config
from tests.sealed import read_json, save_sealed, write_sealed
from tests.synthetic import synthetic_problem

GROUP = 32
MENU = ("3g-1", 3, "3g16", 4, "4g16")
METHOD = """
from ramp.methods.kinds import Allocator, Params
from tests.reference_quantizers import quantize_gptq
METHOD = Allocator(name="mixed", title="Mixed", source="test", fold="none", quantizer="gptq", learned=False,
                   allocate=lambda problem, params, run: None, params=Params)
"""


@pytest.fixture(scope="module")
def study(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text, no fold, a method file, and the GPTQ bank of the menu in ``bank``."""
    folder = tmp_path_factory.mktemp("menu")
    write_documents(folder / "text.jsonl", [Document(f"d{i}", f"{i} alpha beta gamma {i * i} " * 20) for i in range(6)])
    save_sealed({}, folder / "none.safetensors")
    (folder / "mixed.py").write_text(METHOD)
    argv = ["--model-dir", str(tiny_llama_dir), "--text", str(folder / "text.jsonl"), "--tokens", "512"]
    argv += ["--length", "64", "--fold", str(folder / "none.safetensors"), "--group-size", str(GROUP)]
    assert bank_main([*argv, "--widths", "4g16", "4", "3g16", "3g-1", "3g32", "--out", str(folder / "bank")]) == 0
    return folder


def test_entries_without_groups_of_their_own_are_the_plain_bank_s(
    study: Path, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    windows = calibration_windows(tiny_llama_dir, study / "text.jsonl", tokens=512, length=64)
    build_bank(
        tiny_llama_dir, windows, tmp_path / "plain", fold={}, fold_name="none", quantizer="gptq", widths=[4, 3],
        group_size=GROUP, device="cpu",
    )  # fmt: skip
    plain, menu = (load_file(folder / "bank.safetensors") for folder in (tmp_path / "plain", study / "bank"))
    assert len(plain) == 3 * 2 * 14
    assert all(torch.equal(tensor, menu[name]) for name, tensor in plain.items())
    index = read_json(tmp_path / "plain" / "bank.json")
    assert index["widths"] == [3, 4]  # a bank without groups of its own looks as it always did
    fields = {"format_version", "fold", "fold_sha256", "quantizer", "group_size", "widths", "tokens", "linears"}
    assert set(index) == fields | {"sha256"}
    assert set(index["linears"][0]["bytes"]) == {"3", "4"}


def menu_problem(study: Path, model_dir: Path, budget: float, proxy: np.ndarray) -> Problem:
    bank = Bank(study / "bank")

    def nothing(choice: np.ndarray) -> Any:
        raise AssertionError("nothing is evaluated here")

    return Problem(
        model="tiny", linears=bank.linears, widths=bank.widths, bytes=bank.bytes(),
        budget_bytes=budget_bytes(bank.linears, budget, GROUP), budget_bits=budget,
        features=np.zeros((14, 9), dtype=np.float32), proxy=proxy, evaluate=nothing, select=nothing,
        bytes_at=lambda bits: budget_bytes(bank.linears, bits, GROUP),
    )  # fmt: skip


def test_from_sensitivities_to_a_packed_row_and_its_records(study: Path, tiny_llama_dir: Path, tmp_path: Path) -> None:
    argv = ["--model-dir", str(tiny_llama_dir), "--bank", str(study / "bank"), "--text", str(study / "text.jsonl")]
    argv += ["--fold", str(study / "none.safetensors"), "--windows", "4", "--length", "64"]
    assert sensitivity.main([*argv, "--out", str(tmp_path / "fisher.json")]) == 0
    linears = list_linears(read_config(tiny_llama_dir))
    proxy, tokens = read_proxy(tmp_path / "fisher.json", linears, MENU)
    assert proxy.shape == (14, 5)
    assert tokens == 4 * 64 * (3 + 5)
    assert bool((proxy.sum(0)[[1, 2, 4]] < proxy.sum(0)[[0, 1, 3]]).all())  # smaller groups cost less KL
    problem = menu_problem(study, tiny_llama_dir, 3.5, proxy)
    choice = knapsack.solve(proxy, problem.bytes, problem.budget_bytes)
    fields = {"group_size": GROUP, "fold": "none", "quantizer": "gptq", "seed": 0, "method": "mixed", "study": "t"}
    start = {x.name: "4g16" for x in linears}
    record = record_allocation(problem, choice, kind="proxy", start_bits=start, **fields)
    write_allocation(tmp_path / "a.json", record)
    assert read_allocation(tmp_path / "a.json", linears) == record
    assert set(record.bits.values()) <= set(MENU)
    assert any(isinstance(width, str) for width in record.bits.values())
    assert " bits" in summary(record)

    row = ["--model-dir", str(tiny_llama_dir), "--text", str(study / "text.jsonl"), "--tokens", "512"]
    row += ["--length", "64", "--fold", str(study / "none.safetensors"), "--method-file", str(study / "mixed.py")]
    row += ["--group-size", str(GROUP), "--study", "t", "--allocation", str(tmp_path / "a.json")]
    assert quantize_stage.main([*row, "--out", str(tmp_path / "row")]) == 0
    meta = read_meta(tmp_path / "row")
    assert meta["bits"] == record.bits
    assert meta["bytes_linear"] == record.bytes_linear <= record.budget_bytes
    stored = load_file(tmp_path / "row" / "model.safetensors")
    by_hand = 0
    for linear in linears:
        parts = [stored[f"{linear.name}.{part}"] for part in ("codes", "scales", "zeros")]
        by_hand += sum(part.nbytes for part in parts)
        group = group_of(record.bits[linear.name], GROUP)
        assert parts[1].shape == (linear.d_out, 1 if group == -1 else linear.d_in // group)
    assert by_hand == meta["bytes_linear"]
    weighted = sum(x.params * bits_of(record.bits[x.name]) for x in linears) / sum(x.params for x in linears)
    assert meta["bits_nominal"] == pytest.approx(weighted)
    assert bits_nominal(meta["bits"], linears)[0] == pytest.approx(weighted)
    first = linears[0]  # its inputs are float in bank and row alike
    loaded = load_dequantized(tmp_path / "row", tiny_llama_dir).get_submodule(first.name).weight
    assert torch.equal(loaded, Bank(study / "bank").dequantize(first.name, record.bits[first.name]))

    lines = list(reported_rows(meta, {meta["model"]: linears}, tmp_path / "row"))
    assert sum(line["bytes"] for line in lines) == meta["bytes_linear"]
    types = {3: "affine", "3g16": "affine-g16", "4g16": "affine-g16", 4: "affine", "3g-1": "affine-g-1"}
    for line in lines:
        width = record.bits[line["linear"]]
        assert (line["bits"], line["type"]) == (bits_of(width), types[width])
    name = ("tiny", "mixed", 3.5, 0)
    start = list(allocation_rows(record, {name: {}}, {"tiny": linears}, tmp_path / "a.json"))
    assert {line["which"] for line in start} == {"start"}
    assert sum(line["bytes"] for line in start) == sum(linear_bytes(x.d_out, x.d_in, 4, 16) for x in linears)

    damaged = record.model_dump() | {"bits": record.bits | {first.name: "4g8"}}
    write_sealed(tmp_path / "a.json", damaged)
    with pytest.raises(AllocationError, match="its widths take"):
        quantize_stage.main([*row, "--out", str(tmp_path / "no")])


def test_a_policy_keeps_its_menu(tmp_path: Path) -> None:
    menu = (3, "3g16", 4, "4g16")
    layers = [(np.zeros((4, 11), dtype=np.float32), np.arange(4, dtype=np.float32))]
    Policy(layers, menu, {"model": "m", "method": "x", "budgets": [3.65], "seed": 0, "episodes": 1}).save(tmp_path)
    policy = load_policy(tmp_path)
    assert policy.widths == menu
    problem = synthetic_problem(widths=menu)
    assert problem.is_feasible(transfer(policy, problem))
    with pytest.raises(PolicyError, match="widths"):
        transfer(policy, synthetic_problem(widths=(3, 4, 5, 6)))


def test_an_export_maps_bits_alone_and_says_so(tiny_llama_dir: Path, tmp_path: Path) -> None:
    config = read_config(tiny_llama_dir)
    linears = list_linears(config)
    grouped = {x.name: "4g16" if x.role == "down" else 3 for x in linears}
    plain = {name: bits_of(width) for name, width in grouped.items()}
    assert plan_tensors(config, grouped, "q8_0") == plan_tensors(config, plain, "q8_0")
    calibration, notes = statistics(tiny_llama_dir, tmp_path / "c.safetensors"), {}
    for name, bits in (("grouped", grouped), ("plain", plain)):
        allocation = allocation_of(tiny_llama_dir, bits=bits, group_size=GROUP)
        notes[name] = export(tiny_llama_dir, tmp_path / f"{name}.gguf", allocation, calibration).notes
    assert (tmp_path / "grouped.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()
    said = "group sizes of the allocation have no counterpart: ggml's blocks have their own"
    assert notes["grouped"] == [*notes["plain"], said]
