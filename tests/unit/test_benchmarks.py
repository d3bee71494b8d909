"""Benchmarks on tiny shapes: harness, distances against float64, pieces as tables. No test asserts a time."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gguf_command, gptq_block, memory
from benchmarks.bank import packed_bits_bytes
from benchmarks.distance import block_errors, kl_of, linear_errors, with_state
from benchmarks.measure import BenchmarkError, Sample, alternate, command_line, compared, ratio, row
from benchmarks.ours import Quantized, quantize_ours
from benchmarks.parity import compare
from benchmarks.reference import Reference
from benchmarks.shapes import LLAMA_7B, SIZES, BlockShape, write_checkpoint
from ramp.models.architecture import list_linears
from ramp.models.folder import CheckpointReader
from ramp.models.token_windows import Document, write_documents
from ramp.quantizers.sizes import linear_bytes
from tests.ggml_models import WIDE
from tests.model_folders import load_float, read_config
from tests.tiny_models import random_llama
from tests.unit.test_sized_gguf_command import words

TINY = BlockShape(hidden=64, intermediate=128, heads=2, kv_heads=2, layers=2, vocab=48)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    write_checkpoint(folder, TINY, seed=0)
    return folder


def windows(count: int = 3, length: int = 16) -> torch.Tensor:
    return torch.randint(0, TINY.vocab, (count, length), generator=torch.Generator().manual_seed(1))


# --- harness ---------------------------------------------------------------------------------------------------------


def test_sides_take_turns_and_change_who_goes_first() -> None:
    order: list[str] = []

    def side(name: str) -> Any:
        def work() -> Sample:
            order.append(name)
            return Sample(len(order), 0.0)

        return work

    ours, reference = alternate(side("a"), side("b"), 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [s.cpu_s for s in ours] == [1, 4, 5]
    assert [s.cpu_s for s in reference] == [2, 3, 6]
    with pytest.raises(BenchmarkError, match="at least 1"):
        alternate(side("a"), side("b"), 0)


def test_a_row_is_a_ratio_of_medians() -> None:
    found = compared("x", [Sample(1, 9), Sample(3, 9), Sample(2, 9)], [Sample(8, 9)], "cmd")
    assert (found["ours"], found["reference"], found["ratio"], found["unit"]) == (2, 8, 0.25, "processor s")
    assert row("y", 1.0, None, "s", "c")["ratio"] is None
    assert ratio(1.0, 0.0) is None


def test_a_command_names_files_as_seen_from_here_and_nothing_that_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = SimpleNamespace(
        tokens=8, act_order=True, clip=False, bits=[3, 4], name=None, model_dir=tmp_path / "r/m", given={"sym": True}
    )
    assert command_line("benchmarks.x", args) == (
        "python -m benchmarks.x --tokens 8 --act-order --bits 3 4 --model-dir r/m --given '{\"sym\": true}'"
    )


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_the_7b_has_its_published_size() -> None:
    weights = sum(d_out * d_in for d_out, d_in in LLAMA_7B.linears.values())
    norms = (2 * LLAMA_7B.layers + 1) * LLAMA_7B.hidden
    assert LLAMA_7B.layers * weights + 2 * LLAMA_7B.vocab * LLAMA_7B.hidden + norms == 6_738_415_616
    sizes = [sum(a * b for a, b in shape.linears.values()) for shape in SIZES.values()]
    assert [round(b / a, 2) for a, b in pairwise(sizes)] == [4, 4, 4]


# --- distances -------------------------------------------------------------------------------------------------------


def shifted(model_dir: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    """The linears of the model with noise on them."""
    generator, reader = torch.Generator().manual_seed(seed), CheckpointReader(model_dir)
    names = [f"{x.name}.weight" for x in list_linears(read_config(model_dir))]
    return {n: (t := reader.get(n).float()) + 0.002 * torch.randn(t.shape, generator=generator) for n in names}


def test_linear_errors_are_the_trace_in_float64(model_dir: Path) -> None:
    state, model = shifted(model_dir), load_float(model_dir)
    name, seen = "model.layers.1.mlp.down_proj", []
    model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().double()))
    for window in windows():
        model(input_ids=window[None])
    x = torch.cat([each.reshape(-1, each.shape[-1]) for each in seen])
    d = (state[f"{name}.weight"] - model.get_submodule(name).weight).double()
    expected = float(torch.trace(d @ (x.T @ x / len(x)) @ d.T))
    assert linear_errors(model_dir, windows(), state)[name] == pytest.approx(expected, rel=1e-4)


def test_a_fold_between_norm_and_linears_costs_no_block_error(model_dir: Path) -> None:
    reader = CheckpointReader(model_dir)
    norm, path = "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn"
    s = torch.linspace(0.5, 2, TINY.hidden)
    folded = {norm: reader.get(norm).float() / s}
    folded |= {f"{path}.{p}_proj.weight": reader.get(f"{path}.{p}_proj.weight").float() * s for p in "qkv"}
    noise = sum(block_errors(model_dir, windows(), shifted(model_dir)))
    assert sum(block_errors(model_dir, windows(), folded)) < 1e-6 * noise
    assert block_errors(model_dir, windows(), {}) == [0.0, 0.0]


def test_kl_is_zero_for_the_model_itself_and_not_for_another(model_dir: Path) -> None:
    found = kl_of(model_dir, windows(), {"same": {}, "other": shifted(model_dir)})
    assert found["same"] == 0
    model, other = load_float(model_dir), with_state(model_dir, shifted(model_dir))
    p, q = (m(input_ids=windows()).logits[:, :-1].double().log_softmax(-1) for m in (model, other))
    assert found["other"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_ours_quantizes_a_whole_model(model_dir: Path, method: str) -> None:
    made = quantize_ours(method, model_dir, windows(8, 32), 8, 32, {})
    rough = quantize_ours(method, model_dir, windows(8, 32), 3, 32, {})
    fine_error, rough_error = (sum(block_errors(model_dir, windows(), each.state)) for each in (made, rough))
    assert 0 < fine_error < rough_error / 100
    assert made.sample.cpu_s > 0


def test_scales_are_searched_on_the_grid_that_is_rounded_to(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ramp.calibration import fold_search

    search, seen = fold_search.search_folds, []
    monkeypatch.setattr(fold_search, "search_folds", lambda *a, **k: seen.append(a[2].sym) or search(*a, **k))
    for sym in (True, False):
        quantize_ours("awq", model_dir, windows(2, 16), 4, 32, {"sym": sym})
    assert seen == [True, False]


@pytest.mark.parametrize("measure", ["linears", "blocks"])
def test_comparing_a_model_with_itself_gives_ones(model_dir: Path, measure: str) -> None:
    one, other = (Quantized(shifted(model_dir, seed), Sample(1, 1)) for seed in (0, 1))
    same = compare(measure, model_dir, windows(), windows(), one, one)
    assert same["ratio"] == same["error_ratio"] == 1
    assert "geometric mean of the ratios" in same["note"]
    assert "1.000, median 1.000" in same["note"]
    differs = compare(measure, model_dir, windows(), windows(), one, other)
    assert differs["error_ratio"] == pytest.approx(differs["error_ours"] / differs["error_reference"]) != 1


# --- single benchmarks -----------------------------------------------------------------------------------------------


def test_packed_bits_are_what_the_sizes_say_but_for_padding() -> None:
    for bits in range(2, 9):
        packed = packed_bits_bytes(24, 128, bits, 64)
        assert packed <= linear_bytes(24, 128, bits, 64) < packed + 24 + 1


def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    shape = BlockShape(hidden=128, intermediate=256, heads=2, kv_heads=2, layers=4, vocab=64)
    args = SimpleNamespace(
        folder=tmp_path / "scratch", blocks=2, windows=2, length=32, bits=4, group_size=64, threads=1, seed=0,
        device="cpu",
    )  # fmt: skip
    piece = memory.measure(args, shape)
    assert piece.detail["blocks"] == 2
    assert piece.detail["peak_resident_bytes"] >= piece.detail["peak_own_bytes"] > 1 << 20
    extrapolated = piece.rows[-1]
    assert extrapolated["ours"] == pytest.approx(2 * extrapolated["reference"])
    assert "extrapolated" in extrapolated["note"]
    assert not list((tmp_path / "scratch").iterdir())  # the model is deleted


def test_no_room_for_the_model_is_told_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="GB free"):
        memory.check_disk(tmp_path, BlockShape(1 << 17, 1 << 18, 8, 8, layers=1 << 12))


def test_the_gguf_command_is_timed_beside_llamacpp(tmp_path: Path) -> None:
    pytest.importorskip("cyllama")
    text, held = tmp_path / "calibration.jsonl", tmp_path / "held.jsonl"
    for seed, file in enumerate((text, held)):
        write_documents(file, [Document(f"doc-{seed}", words(seed, 4000))])
    model = random_llama(tmp_path / "tiny", **WIDE)
    args = gguf_command.arguments().parse_args(
        [
            *("--model-dir", str(model), "--text", str(text), "--heldout", str(held)),
            *(
                "--tokens",
                "512",
                "--length",
                "64",
                "--threads",
                "1",
                "--repeats",
                "1",
                "--out",
                str(tmp_path / "x.json"),
            ),
        ]
    )
    piece = gguf_command.measure(args)
    assert 0 < piece.detail["bytes"] <= piece.detail["asked"]
    assert all(row["ours"] > 0 and row["reference"] > 0 for row in piece.rows)
    assert [row["unit"] for row in piece.rows] == ["s", "processor s", "s", "bytes"]


def test_a_side_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no such folder"):
        gguf_command.run([sys.executable, "-c", "raise SystemExit('no such folder')"], tmp_path / "log")


WORKER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["job"] == "versions":
        print(json.dumps({"ok": True, "versions": {"fake": "1"}}), flush=True)
    elif asked["job"] == "die":
        sys.exit(3)
    else:
        print(json.dumps({"ok": False, "reason": "no such job"}), flush=True)
"""


def test_a_reference_that_fails_or_dies_is_told_in_a_sentence(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    with Reference(Path(sys.executable), 1, tmp_path / "log.txt", worker) as reference:
        assert reference.versions == {"fake": "1"}
        with pytest.raises(BenchmarkError, match="no such job"):
            reference.ask("x")
        with pytest.raises(BenchmarkError, match="ended"):
            reference.ask("die")
    with pytest.raises(BenchmarkError, match="no interpreter"):
        Reference(tmp_path / "python", 1, tmp_path / "log.txt")


class RoundingReference:
    """Stands for the package: rounds to nearest, says it took a second for each part."""

    def ask(self, job: str, inputs: str, out: str, bits: int, group_size: int, **_: Any) -> dict[str, Any]:
        from safetensors.torch import load_file, save_file

        from ramp.quantizers.affine import quantize_rtn

        assert job == "gptq"
        tensors = load_file(inputs)
        del tensors["x"]
        made = {k.removeprefix("weight/"): quantize_rtn(w, bits, group_size).dequantize() for k, w in tensors.items()}
        save_file(made, out)
        return {f"{part}_{clock}_s": 1.0 for part in ("hessian", "quantize") for clock in ("cpu", "wall")}


@pytest.mark.parametrize("act_order", [False, True])
def test_the_block_benchmark_sums_sites_and_errors(act_order: bool) -> None:
    args = SimpleNamespace(
        hidden=64, intermediate=128, heads=2, tokens=256, length=64, bits=3, group_size=32, damping=0.01, seed=0,
        act_order=act_order, repeats=2, threads=1,
    )  # fmt: skip
    piece = gptq_block.measure(args, RoundingReference())
    whole, quantizing, hessians, errors = piece.rows
    assert whole["reference"] == 8  # four sites, two parts of a second each
    assert quantizing["reference"] == hessians["reference"] == 4
    assert 0 < errors["ratio"] < 1  # GPTQ beats rounding on correlated inputs
    assert len(piece.detail["whole"]["ours"]) == 2
