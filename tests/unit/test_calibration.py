"""Streamed calibration against the whole Hugging Face model, which we did not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHAPE, save_random_model, save_tokenizer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ramp.calibration import __main__ as calibration_stage
from ramp.calibration.block import BlockVisit, CalibrationError
from ramp.calibration.stream import stream
from ramp.calibration.windows import calibration_windows
from ramp.models.architecture import ModelError
from ramp.models.token_windows import TextError
from tests.model_folders import load_float
from tests.tiny_models import windows_of, write_text


@pytest.fixture(scope="module")
def tiny_mistral_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import MistralConfig

    folder = tmp_path_factory.mktemp("tiny-mistral")
    size = save_tokenizer(folder)
    config = MistralConfig(vocab_size=size, sliding_window=64, head_dim=32, tie_word_embeddings=False, **SHAPE)
    return save_random_model(folder, config, seed=2)


@pytest.fixture(params=["llama", "mistral", "qwen2"])
def model_dir(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{request.param}_dir")


def random_windows(model_dir: Path, count: int = 3, length: int = 40) -> torch.Tensor:
    return windows_of(model_dir, count, length, seed=5)


def inputs_of_whole_model(model_dir: Path, windows: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Input rows of every linear, by a forward pass of the whole model: name -> [count * length, d_in]."""
    model, seen = load_float(model_dir, dtype), {}
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            module.register_forward_pre_hook(lambda m, args, name=name: seen.__setitem__(name, args[0].flatten(0, 1)))
    model(windows)
    return seen


def enters_the_final_norm(model: Any, windows: torch.Tensor, **options: Any) -> tuple[torch.Tensor, Any]:
    """(what enters the final norm [count, length, hidden], the output of the model)."""
    last: dict[str, torch.Tensor] = {}
    model.model.norm.register_forward_pre_hook(lambda m, args: last.update(x=args[0]))
    output = model(windows, **options)
    return last["x"], output


@pytest.mark.parametrize("batch", [2, 3])
def test_hidden_states_equal_those_of_the_whole_model(model_dir: Path, batch: int) -> None:
    windows = random_windows(model_dir)
    last, output = enters_the_final_norm(load_float(model_dir), windows, output_hidden_states=True)
    found: list[torch.Tensor] = []

    def look(visit: BlockVisit) -> None:
        found.append(torch.cat(list(visit.inputs())))

    stream(model_dir, windows, look, device="cpu", batch=batch, result=found.append)
    for ours, expected in zip(found, [*output.hidden_states[:2], last], strict=True):  # [i] is what enters block i
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_hessians_and_statistics_equal_explicit_ones(model_dir: Path) -> None:
    windows = random_windows(model_dir)
    seen = inputs_of_whole_model(model_dir, windows, torch.float64)
    visited = []

    def visit(block: BlockVisit) -> None:
        hessians, stats = block.hessians(), block.activations()
        assert list(hessians) == ["attn_in", "o_in", "mlp_in", "down_in"]
        for kind, hessian in hessians.items():
            for role in block.readers(kind):
                spec = block.specs[role]
                assert spec.site == block.site_name(kind)
                x = seen[spec.name]  # float64
                explicit = x.T @ x / len(x)
                assert hessian.dtype == torch.float32
                scale = explicit.diagonal().max()
                assert float((hessian - explicit).abs().max() / scale) < 1e-5
                assert torch.allclose(stats[kind].absmax.double(), x.abs().amax(0), rtol=1e-4)
                assert torch.allclose(stats[kind].absmean.double(), x.abs().mean(0), rtol=1e-4)
                assert torch.allclose(stats[kind].sqmean, hessian.diagonal(), rtol=1e-4)
                visited.append(spec.name)
            assert torch.equal(block.hessian(kind), hessian)

    stream(model_dir, windows, visit, device="cpu")
    assert len(visited) == 14
    assert len(set(visited)) == 14


def test_replaced_weights_change_later_sites_and_later_blocks(tiny_llama_dir: Path) -> None:
    windows = random_windows(tiny_llama_dir)
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}

    def look(block: BlockVisit) -> None:
        before.update({block.site_name(kind): h for kind, h in block.hessians().items()})

    def replace(block: BlockVisit) -> None:
        block.hessians()  # what is cached here must not survive the change
        if block.layer == 0:
            block.replace("v", block.linears["v"].weight * 1.5)
        after.update({block.site_name(kind): h for kind, h in block.hessians().items()})

    stream(tiny_llama_dir, windows, look, device="cpu")
    stream(tiny_llama_dir, windows, replace, device="cpu")
    torch.testing.assert_close(after["model.layers.0.attn_in"], before["model.layers.0.attn_in"])
    torch.testing.assert_close(after["model.layers.0.o_in"], before["model.layers.0.o_in"] * 2.25)
    assert not torch.allclose(after["model.layers.1.attn_in"], before["model.layers.1.attn_in"], rtol=1e-2)


def test_replaced_weights_give_the_output_of_the_changed_model(tiny_llama_dir: Path) -> None:
    windows, found = random_windows(tiny_llama_dir), []
    model = load_float(tiny_llama_dir)
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.up_proj.weight.mul_(-0.5)

    def halve(visit: BlockVisit) -> None:
        visit.replace("up", visit.linears["up"].weight * -0.5)

    stream(tiny_llama_dir, windows, halve, device="cpu", result=found.append)
    torch.testing.assert_close(found[0], enters_the_final_norm(model, windows)[0], atol=1e-5, rtol=1e-5)


def test_statistics_run_only_as_far_as_their_site(tiny_llama_dir: Path) -> None:
    """A Hessian of attn_in must not cost a whole block: nothing behind the site runs."""
    ran = []

    def visit(block: BlockVisit) -> None:
        handle = block.linears["o"].register_forward_hook(lambda *a: ran.append("o"))
        block.hessian("attn_in")
        assert not ran
        block.hessian("mlp_in")
        assert ran
        handle.remove()
        ran.clear()

    stream(tiny_llama_dir, random_windows(tiny_llama_dir), visit, device="cpu")


def change_all(block: BlockVisit, found: dict[str, torch.Tensor]) -> None:
    """Note the Hessian of each site, then make every weight that reads it coarser."""

    def change(kind: str, hessian: torch.Tensor) -> None:
        found[block.site_name(kind)] = hessian.clone()
        for role in block.readers(kind):
            block.replace(role, (block.linears[role].weight * 8).round() / 8)

    block.each_site(change)


def test_each_site_runs_a_block_once_and_sees_changed_predecessors(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the way that needs no trick: the block again for each site, in batches."""
    windows, found, last = random_windows(model_dir), ({}, {}), ([], [])
    ran: list[str] = []

    def visit(block: BlockVisit) -> None:
        handles = [block.linears[role].register_forward_hook(lambda *a: ran.append("x")) for role in ("q", "down")]
        change_all(block, found[0])
        for handle in handles:
            handle.remove()
        assert block.outputs is not None

    stream(model_dir, windows, visit, device="cpu", result=last[0].append)
    assert len(ran) == 2 * 2  # q and down of two blocks, once each
    monkeypatch.setattr("ramp.calibration.block.ACTIVATION_BYTES", 0)
    stream(model_dir, windows, lambda block: change_all(block, found[1]), device="cpu", batch=2, result=last[1].append)
    assert list(found[0]) == list(found[1])
    assert len(found[0]) == 8
    for site, hessian in found[0].items():
        scale = float(hessian.diagonal().max())
        torch.testing.assert_close(hessian, found[1][site], atol=1e-5 * scale, rtol=1e-4)
    torch.testing.assert_close(last[0][0], last[1][0], atol=1e-4, rtol=1e-4)


def test_a_change_behind_the_site_is_not_lost(tiny_llama_dir: Path) -> None:
    """Outputs of a pass in which an earlier weight changed are not the block's any more."""
    windows, found = random_windows(tiny_llama_dir), []

    def visit(block: BlockVisit) -> None:
        block.each_site(lambda kind, h: block.replace("q", block.linears["q"].weight * 0.5) if kind == "o_in" else None)
        assert block.outputs is None
        block.hessians()
        assert block.outputs is not None

    stream(tiny_llama_dir, windows, visit, device="cpu", result=found.append)
    model = load_float(tiny_llama_dir)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.q_proj.weight.mul_(0.5)
    torch.testing.assert_close(found[0], enters_the_final_norm(model, windows)[0], atol=1e-5, rtol=1e-5)


def test_wide_second_moments_are_symmetric_and_exact() -> None:
    """More than one strip: 8 strips of 192 columns at 1,500."""
    from ramp.calibration.block import _Moments

    x = torch.randn(2, 70, 1500, generator=torch.Generator().manual_seed(0))
    moments = _Moments(1500, x.device, second=True, ranges=False)
    assert len(list(moments.strips())) == 8
    for part in x:
        moments.add(part)
    rows = x.flatten(0, 1).double()
    found = moments.second()
    torch.testing.assert_close(found.double(), rows.T @ rows / 140, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.triu(192), found.tril(-192).T)


def test_fewer_tokens_than_channels_are_logged(tiny_llama_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream(tiny_llama_dir, random_windows(tiny_llama_dir), lambda visit: visit.hessians() and None, device="cpu")
    assert "block 1: down_in: 120 calibration tokens for 128 channels" in caplog.text
    assert "attn_in" not in caplog.text
    assert len(caplog.records) == 2  # one line per block


def altered_copy(source: Path, target: Path, name: str, value: float | None, channel: int | None = None) -> Path:
    """A copy of a checkpoint with one tensor filled with ``value`` (one entry of it, or dropped where None)."""
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(target / "model.safetensors")
    if value is None:
        del tensors[name]
    elif channel is None:
        tensors[name].fill_(value)
    else:
        tensors[name][channel] = value
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_nan_activations_name_the_site(tiny_llama_dir: Path, tmp_path: Path) -> None:
    broken = altered_copy(tiny_llama_dir, tmp_path, "model.layers.1.mlp.up_proj.weight", float("nan"), 3)
    visits = {
        "1 of 128 channels of": lambda visit: visit.activations() and None,
        "1 of 128 channels": lambda visit: visit.each_site(lambda *a: None),
        "outputs of": lambda visit: None,
    }
    for words, visit in visits.items():
        with pytest.raises(CalibrationError, match=words):
            stream(broken, random_windows(broken), visit, device="cpu")


def test_dead_channels_are_logged(tiny_llama_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = altered_copy(tiny_llama_dir, tmp_path, "model.layers.0.input_layernorm.weight", 0.0, 7)
    stream(dead, random_windows(dead), lambda visit: visit.hessians() and None, device="cpu")
    assert "block 0: attn_in: 1 of 64 input channels are zero" in caplog.text


def test_missing_tensor_is_named(tiny_llama_dir: Path, tmp_path: Path) -> None:
    lacking = altered_copy(tiny_llama_dir, tmp_path, "model.layers.1.post_attention_layernorm.weight", None)
    with pytest.raises(ModelError, match=r"1\.post_attention_layernorm"):
        stream(lacking, random_windows(lacking), lambda visit: None, device="cpu")


@pytest.mark.parametrize("one_pass", [False, True])
def test_a_linear_that_is_never_called_is_named(tiny_llama_dir: Path, one_pass: bool) -> None:
    def visit(block: BlockVisit) -> None:
        block.linears["o"] = torch.nn.Linear(64, 64)  # a module that the block does not know
        if one_pass:
            block.each_site(lambda kind, hessian: None)
        block.hessian("o_in")

    with pytest.raises(CalibrationError, match=r"0\.self_attn\.o_proj"):
        stream(tiny_llama_dir, random_windows(tiny_llama_dir), visit, device="cpu")


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        (torch.zeros(0, 16, dtype=torch.long), "hold nothing"),
        (torch.zeros(2, 300, dtype=torch.long), "context of 256"),
        (torch.full((1, 8), 9999), "vocabulary"),
    ],
)
def test_unusable_windows(tiny_llama_dir: Path, windows: torch.Tensor, sentence: str) -> None:
    with pytest.raises(TextError, match=sentence):
        stream(tiny_llama_dir, windows, lambda visit: None, device="cpu")


def test_window_beyond_sliding_attention(tiny_mistral_dir: Path) -> None:
    with pytest.raises(ModelError, match="sliding"):
        stream(tiny_mistral_dir, random_windows(tiny_mistral_dir, length=65), lambda visit: None, device="cpu")


def test_command_line_writes_statistics(tiny_llama_dir: Path, tmp_path: Path) -> None:
    text, out = write_text(tmp_path / "calibration.jsonl", "The cat sat on a mat. "), tmp_path / "out.safetensors"
    argv = ["--model-dir", str(tiny_llama_dir), "--text", str(text), "--tokens", "128", "--length", "64"]
    assert calibration_stage.main([*argv, "--out", str(out)]) == 0
    with safe_open(out, framework="pt") as handle:
        about = handle.metadata()["ramp"]
        names = set(handle.keys())
    assert '"tokens": 128' in about
    assert '"windows": 2' in about
    assert names == {
        f"model.layers.{layer}.{kind}/{key}"
        for layer in (0, 1)
        for kind in ("attn_in", "o_in", "mlp_in", "down_in")
        for key in ("absmax", "absmean", "sqmean")
    }
    tensors = load_file(out)
    assert tensors["model.layers.1.down_in/absmax"].shape == (128,)
    first = out.read_bytes()
    calibration_stage.main([*argv, "--out", str(out)])
    assert out.read_bytes() == first


def test_too_few_tokens(tiny_llama_dir: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path / "t.jsonl", "abc")
    with pytest.raises(CalibrationError, match="no window"):
        calibration_windows(tiny_llama_dir, text, tokens=10, length=64)
