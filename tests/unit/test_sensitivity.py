"""Fisher sensitivities against explicit gradients, and against the KL that they claim to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ramp.bank.bank import Bank, BankError
from ramp.bank.build import build_bank
from ramp.calibration.folding import folded_float_model
from ramp.core.tensor_file import save_tensors
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import TextError
from ramp.sensitivity import __main__ as sensitivity
from ramp.sensitivity.fisher import fisher_proxy
from ramp.sensitivity.setting import SensitivityError, Setting
from tests.sealed import read_json
from tests.tiny_models import altered, windows_of, write_text


def some_windows(model_dir: Path, count: int, length: int = 32, seed: int = 6) -> torch.Tensor:
    return windows_of(model_dir, count, length, seed)


@pytest.fixture(scope="module")
def fold(tiny_qwen2_dir: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return {f"model.layers.{i}.mlp_in": torch.rand(64, generator=generator) + 0.5 for i in (0, 1)}


def make(model_dir: Path, folder: Path, fold: dict[str, torch.Tensor], quantizer: str) -> Bank:
    windows = None if quantizer == "rtn" else some_windows(model_dir, 16, seed=7)
    build_bank(
        model_dir, windows, folder, fold=fold, fold_name="random", quantizer=quantizer, widths=[4, 6], group_size=32,
        device="cpu",
    )  # fmt: skip
    return Bank(folder)


@pytest.fixture(scope="module")
def banks(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bank]:
    folder = tmp_path_factory.mktemp("banks")
    return {name: make(tiny_qwen2_dir, folder / name, fold, name) for name in ("rtn", "gptq")}


def streamed(model_dir: Path, fold: dict, bank: Bank, windows: torch.Tensor, seed: int = 0) -> np.ndarray:
    return fisher_proxy(Setting(bank, ModelFolder(model_dir), fold, windows).runner(), bank, windows, seed=seed)


def explicit(model_dir: Path, fold: dict, bank: Bank, windows: torch.Tensor) -> np.ndarray:
    """The same drawn labels, whole gradients from autograd, the definition written out."""
    model, out = folded_float_model(model_dir, fold), np.zeros((len(bank.linears), len(bank.widths)))
    modules = [model.get_submodule(x.name) for x in bank.linears]
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for i, module in enumerate(modules):
        module.weight.requires_grad_(True)

        def remember(m: torch.nn.Module, args: tuple, output: torch.Tensor, i: int = i) -> None:
            output.retain_grad()
            seen[i] = (args[0].detach()[0], output)

        module.register_forward_hook(remember)
    draw = torch.Generator().manual_seed(0)
    for window in windows:
        logits = model(window[None]).logits[0, :-1]
        labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=draw)[:, 0]
        loss = -logits.log_softmax(-1)[torch.arange(len(window) - 1), labels].sum()
        model.zero_grad()
        loss.backward()
        for i, (x, module) in enumerate(zip(bank.linears, modules, strict=True)):
            for a, bits in enumerate(bank.widths):
                d = (bank.quantized(x.name, bits).dequantize() - module.weight.detach()).double()
                rows, output = seen[i]
                value = sum((output.grad[0, t].double() @ d @ rows[t].double()) ** 2 for t in range(len(rows)))
                out[i, a] += 0.5 * float(value) / (len(windows) * (len(window) - 1))
    return out


def test_equals_explicit_gradients(tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank]) -> None:
    windows = some_windows(tiny_qwen2_dir, 3, 12)
    proxy = streamed(tiny_qwen2_dir, fold, banks["gptq"], windows)
    expected = explicit(tiny_qwen2_dir, fold, banks["gptq"], windows)
    assert proxy.shape == (14, 2)
    np.testing.assert_allclose(proxy, expected, rtol=1e-3)


def measured(model: torch.nn.Module, bank: Bank, windows: torch.Tensor) -> np.ndarray:
    """True mean KL per token of quantizing one linear alone, for every linear and width."""
    with torch.no_grad():
        reference = model(windows).logits[:, :-1].double().log_softmax(-1)
        out = np.zeros((len(bank.linears), len(bank.widths)))
        for i, x in enumerate(bank.linears):
            weight = model.get_submodule(x.name).weight
            old = weight.clone()
            for a, bits in enumerate(bank.widths):
                weight.copy_(bank.dequantize(x.name, bits))
                changed = model(windows).logits[:, :-1].double().log_softmax(-1)
                out[i, a] = float((reference.exp() * (reference - changed)).sum(-1).mean())
            weight.copy_(old)
    return out


def test_predicts_the_measured_kl_in_nats_per_token(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank]
) -> None:
    """Scale and all: the geometric mean of predicted over measured is near 1, on other windows, both banks."""
    model = folded_float_model(tiny_qwen2_dir, fold)
    for name in ("rtn", "gptq"):
        true = measured(model, banks[name], some_windows(tiny_qwen2_dir, 16, seed=12))
        proxy = streamed(tiny_qwen2_dir, fold, banks[name], some_windows(tiny_qwen2_dir, 16))
        ratio = np.log(proxy / true)
        assert abs(ratio.mean()) < np.log(1.4), np.exp(ratio.mean())
        assert np.corrcoef(np.log(proxy.ravel()), np.log(true.ravel()))[0, 1] > 0.95


def test_seeded_and_cheaper_at_more_bits(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank]
) -> None:
    windows = some_windows(tiny_qwen2_dir, 2)
    runs = [streamed(tiny_qwen2_dir, fold, banks["rtn"], windows, seed) for seed in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert (runs[0][:, 0] > runs[0][:, 1]).all()  # 4 bits cost more than 6


def test_windows_in_groups_give_the_same(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank], monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = some_windows(tiny_qwen2_dir, 3)
    whole = streamed(tiny_qwen2_dir, fold, banks["rtn"], windows)
    monkeypatch.setattr("ramp.sensitivity.fisher.SEEN_BYTES", 0)
    assert np.array_equal(whole, streamed(tiny_qwen2_dir, fold, banks["rtn"], windows))


def test_faults_are_named(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank], tmp_path: Path
) -> None:
    with pytest.raises(TextError, match="at least 2"):
        streamed(tiny_qwen2_dir, fold, banks["rtn"], some_windows(tiny_qwen2_dir, 1, 1))
    broken = altered(tiny_qwen2_dir, tmp_path)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SensitivityError, match="NaN or infinite"):
        streamed(broken, fold, banks["rtn"], some_windows(tiny_qwen2_dir, 1))


def test_command_line(
    tiny_qwen2_dir: Path, fold: dict[str, torch.Tensor], banks: dict[str, Bank], tmp_path: Path
) -> None:
    fold_file = tmp_path / "random.safetensors"
    text = write_text(tmp_path / "s.jsonl", "An otter crossed the weir at dusk. ")
    save_tensors(fold_file, fold, {"kind": "awq"})
    argv = ["--model-dir", str(tiny_qwen2_dir), "--bank", str(banks["gptq"].path), "--text", str(text)]
    argv += ["--windows", "2", "--length", "64", "--out", str(tmp_path / "s.json"), "--fold"]
    assert sensitivity.main([*argv, str(fold_file)]) == 0
    record = read_json(tmp_path / "s.json")
    assert record["proxy"] == "fisher"
    assert record["tokens"] == 2 * 64 * (3 + 2)
    assert set(record["linears"]) == {x.name for x in banks["gptq"].linears}
    assert all(set(row) == {"4", "6"} for row in record["linears"].values())
    assert record["bank_sha256"] == banks["gptq"].sha256
    with pytest.raises(BankError, match="'random'"):
        sensitivity.main([*argv, str(tmp_path / "none.safetensors")])
    save_tensors(fold_file, {site: 2 * scales for site, scales in fold.items()}, {"kind": "awq"})
    with pytest.raises(BankError, match="other scales"):
        sensitivity.main([*argv, str(fold_file)])
