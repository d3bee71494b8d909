"""Scale Folding: exact where it claims to be, searched, refused where faulty, and from a configuration to a file."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from ramp.calibration import fold_search as stage
from ramp.calibration.fold_search import FoldSearch, search_folds, search_widths
from ramp.calibration.folding import FoldingError, apply_fold, folded_float_model, load_fold
from ramp.models.architecture import list_linears
from tests.model_folders import load_float, read_config
from tests.refusals import refused
from tests.sealed import save_sealed
from tests.tiny_models import windows_of, write_text

KINDS = ("attn_in", "o_in", "mlp_in", "down_in")
TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}


def random_scales(config: Any, kinds: tuple[str, ...], seed: int = 3) -> dict[str, Tensor]:
    """s = exp(U(-2, 2)) for the given kinds of site, per key/value channel and repeated for o_in."""
    generator, fold = torch.Generator().manual_seed(seed), {}
    for linear in list_linears(config):
        kind = linear.site.rpartition(".")[2]
        if linear.site in fold or kind not in kinds:
            continue
        if kind == "o_in":
            groups, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
            s = torch.exp(torch.rand(groups, width, generator=generator, dtype=torch.float64) * 4 - 2)
            fold[linear.site] = s.repeat_interleave(config.num_attention_heads // groups, 0).reshape(-1)
        else:
            fold[linear.site] = torch.exp(torch.rand(linear.d_in, generator=generator, dtype=torch.float64) * 4 - 2)
    return fold


def random_model(family: str, dtype: torch.dtype, heads: int = 4, kv_heads: int = 2, seed: int = 0) -> Any:
    """A two-layer model, every bias and gain random. In float64 its norms are torch's own, computed in float64
    (transformers' norms always compute in float32, which would hide errors below 1e-7)."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    shape = {**TINY, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    config = Qwen2Config(**shape) if family == "qwen2" else LlamaConfig(attention_bias=True, mlp_bias=True, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.copy_(1 + 0.3 * noise.tanh() if "norm" in name else noise * (1 if p.dim() == 1 else p.shape[-1] ** -0.5))
    if dtype == torch.float64:
        for block in model.model.layers:
            for name in ("input_layernorm", "post_attention_layernorm"):
                norm = torch.nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps, dtype=dtype)
                norm.weight = getattr(block, name).weight
                setattr(block, name, norm)
    return model.requires_grad_(False)


def block_output(model: Any, state: dict[str, Tensor] | None = None) -> Tensor:
    """Return what enters the final norm, with the model's own weights or with ``state`` in their place."""
    seen: dict[str, Tensor] = {}
    handle = model.model.norm.register_forward_pre_hook(lambda m, args: seen.update(x=args[0]))
    tokens = torch.arange(24).view(2, 12) * 7 % 40
    torch.func.functional_call(model, state or {}, (tokens,), strict=False)
    handle.remove()
    return seen["x"]


def own_state(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_which_tensors_a_fold_touches() -> None:
    model = random_model("llama", torch.float64)
    state, before = own_state(model), own_state(model)
    apply_fold(state, random_scales(model.config, KINDS), model.config)
    kept = {name.partition("layers.0.")[2] for name in state if torch.equal(state[name], before[name])}
    biases = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"}
    assert kept == {f"{name}.bias" for name in biases} | {""}  # "" stands for everything outside layer 0


@settings(max_examples=25)
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (2, 1), (8, 2)]),
    family=st.sampled_from(["llama", "qwen2"]),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**16),
    single=st.booleans(),
)
def test_any_positive_scales_leave_the_function(
    heads: tuple[int, int], family: str, kinds: list[str], seed: int, single: bool
) -> None:
    model = random_model(family, torch.float32 if single else torch.float64, *heads, seed=seed)
    state, before = own_state(model), own_state(model)
    apply_fold(state, random_scales(model.config, tuple(kinds), seed), model.config)
    assert any(not torch.equal(state[name], before[name]) for name in state)
    assert relative(block_output(model, state), block_output(model)) < (1e-5 if single else 1e-10)


def test_powers_of_two_on_norms_are_exact_to_the_bit() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = random_model("llama", dtype)
        fold = {
            site: torch.exp2(torch.log2(s).round())
            for site, s in random_scales(model.config, ("attn_in", "mlp_in")).items()
        }
        state = own_state(model)
        apply_fold(state, fold, model.config)
        assert torch.equal(block_output(model, state), block_output(model))


def test_one_block_folds_as_the_whole_model_does() -> None:
    model = random_model("llama", torch.float64)
    whole, fold = own_state(model), random_scales(model.config, KINDS)
    block = {name: t for name, t in own_state(model).items() if ".layers.1." in name}
    apply_fold(whole, fold, model.config)
    apply_fold(block, fold, model.config)
    assert all(torch.equal(block[name], whole[name]) for name in block)


def test_bad_folds_are_refused() -> None:
    model = random_model("llama", torch.float32)
    state = own_state(model)
    half = {name: t for name, t in state.items() if "gate" not in name}
    cases = {
        "between query heads": (state, "0.o_in", torch.linspace(1, 2, 16)),
        "shape": (state, "0.o_in", torch.ones(5)),
        "positive and finite": (state, "0.attn_in", torch.zeros(16)),
        "'model.layers.9.attn_in'": (state, "9.attn_in", torch.ones(16)),
        "gate_proj": (half, "0.mlp_in", torch.ones(16)),
    }
    for words, (weights, site, scale) in cases.items():
        call = partial(apply_fold, dict(weights), {f"model.layers.{site}": scale}, model.config)
        refused(FoldingError, {words: call})


def test_a_fold_of_another_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "awq.safetensors"
    save_sealed({"model.layers.9.attn_in": torch.ones(16)}, path, {"kind": "awq"})
    call = partial(load_fold, path, random_model("llama", torch.float32).config)
    refused(FoldingError, {f"{path}: the fold has a site": call})


def some_windows(model_dir: Path) -> Tensor:
    return windows_of(model_dir, 4, 32, seed=1)


def test_folded_float_model_is_the_float_model(tiny_qwen2_dir: Path, tiny_llama_dir: Path) -> None:
    for model_dir in (tiny_qwen2_dir, tiny_llama_dir):
        model, windows = load_float(model_dir), some_windows(model_dir)
        fold = random_scales(model.config, KINDS)
        folded = folded_float_model(model_dir, fold)
        assert not torch.equal(folded.model.layers[1].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)
        assert relative(folded(windows).logits, model(windows).logits) < 1e-4  # two layers of float32
        plain = folded_float_model(model_dir, {})
        assert torch.equal(plain(windows).logits, model(windows).logits)


def test_awq_lowers_the_error_and_keeps_the_function(peaked_llama_dir: Path) -> None:
    windows = some_windows(peaked_llama_dir)
    fold, errors = search_folds(peaked_llama_dir, windows, FoldSearch("awq", [3, 4], 32), device="cpu")
    assert len(fold) == 8
    assert all(after <= before for before, after in errors.values())
    assert sum(after < 0.9 * before for before, after in errors.values()) >= 4
    model, folded = load_float(peaked_llama_dir), folded_float_model(peaked_llama_dir, fold)
    assert relative(folded(windows).logits, model(windows).logits) < 1e-4
    for s in fold.values():
        assert float(s.max() / s.min()) <= 2.0**16 * 1.01


def test_folds_of_single_widths_come_from_the_same_pass(peaked_llama_dir: Path) -> None:
    windows, search = some_windows(peaked_llama_dir), FoldSearch("awq", [3, 4], 32, max_rows=8)
    found = search_widths(peaked_llama_dir, windows, search, [[3, 4], [4]], device="cpu")
    for bits, (fold, errors) in zip([[3, 4], [4]], found, strict=True):
        alone = FoldSearch("awq", bits, 32, max_rows=8)
        expected, its_errors = search_folds(peaked_llama_dir, windows, alone, device="cpu")
        assert errors == its_errors
        assert all(torch.equal(fold[site], expected[site]) for site in expected)


def test_a_fold_made_with_another_is_taken(peaked_llama_dir: Path, tmp_path: Path) -> None:
    text, missing = write_text(tmp_path / "text.jsonl", "some words of text "), tmp_path / "missing.jsonl"
    shared, made, own, alone, other = (
        tmp_path / f"{name}.safetensors" for name in "shared made own alone other".split()
    )

    def search(bits: str, text: Path, out: Path, *more: str) -> None:
        words = f"--model-dir {peaked_llama_dir} --text {text} --tokens 96 --length 32 --kind awq --group-size 32"
        assert stage.main([*words.split(), "--bits", *bits.split(), "--out", str(out), *more]) == 0

    search("3 4", text, shared, "--also", f"4={made}")
    search("4", text, alone)
    search("4", missing, own, "--made", str(made))
    assert own.read_bytes() == alone.read_bytes()
    search("3", text, other, "--made", str(made))  # of another width: searched
    assert other.read_bytes() != made.read_bytes()


def test_reported_error_is_that_of_the_folded_weights(peaked_llama_dir: Path) -> None:
    """The search promises what rounding the folded weights gives, computed here from the activations."""
    from ramp.quantizers.affine import quantize_rtn

    windows = some_windows(peaked_llama_dir)
    fold, errors = search_folds(peaked_llama_dir, windows, FoldSearch("awq", [3], 32, sites=["mlp_in"]), device="cpu")
    plain, folded = load_float(peaked_llama_dir), folded_float_model(peaked_llama_dir, fold)
    seen: dict[str, Tensor] = {}
    plain.model.layers[0].mlp.gate_proj.register_forward_pre_hook(lambda m, args: seen.update(x=args[0].flatten(0, 1)))
    plain(windows)
    total, s = 0.0, fold["model.layers.0.mlp_in"]
    for name in ("gate_proj", "up_proj"):
        weight = getattr(folded.model.layers[0].mlp, name).weight
        rounded = quantize_rtn(weight, 3, 32).dequantize()
        total += float((((seen["x"] / s) @ (rounded - weight).T) ** 2).sum() / len(seen["x"]))
    assert total == pytest.approx(errors["model.layers.0.mlp_in"][1], rel=1e-3)


def fold_from_configuration(fold: dict[str, Any], model_dir: Path, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """Do as the workflow with an entry of ``folds:``: check it, make arguments of it, run the stage, read the file.

    Returns (the fold, its metadata)."""
    from tests.plans import validate

    values = {"study": "test", "source": "tiny", "methods": ["mine"], "folds": {"mine": fold}}
    values |= {"transfer": {"methods": ["mine"], "uniform": [], "rivals": []}, "halo": {"methods": []}}
    study = validate({**values, "deterministic": []}, methods=["mine"], models=["tiny"])
    text, out = write_text(tmp_path / "c.jsonl", "A heron stood in the shallows. ", 30), tmp_path / "fold.safetensors"
    argv = ["--model-dir", str(model_dir), "--text", str(text), "--tokens", "128", "--length", "64"]
    assert stage.main([*argv, *study.folds["mine"].options(), "--group-size", "32", "--out", str(out)]) == 0
    with safe_open(out, framework="pt") as handle:
        about = json.loads(handle.metadata()["ramp"])
    return load_fold(out, read_config(model_dir)), about


def test_smoothquant_from_configuration_to_file(peaked_llama_dir: Path, tmp_path: Path) -> None:
    """Equation 4 of SmoothQuant at the configured alpha, from activations and weights taken from the whole model."""
    settings_ = {"kind": "smoothquant", "alpha": 0.85, "sites": ["mlp_in"]}
    fold, about = fold_from_configuration(settings_, peaked_llama_dir, tmp_path)
    assert set(fold) == {"model.layers.0.mlp_in", "model.layers.1.mlp_in"}
    assert (about["kind"], about["alpha"]) == ("smoothquant", 0.85)
    from ramp.calibration.windows import calibration_windows

    model, seen = load_float(peaked_llama_dir), {}
    mlp = model.model.layers[1].mlp
    mlp.gate_proj.register_forward_pre_hook(lambda m, args: seen.update(x=args[0].flatten(0, 1)))
    model(calibration_windows(peaked_llama_dir, tmp_path / "c.jsonl", tokens=128, length=64))
    tops = torch.maximum(mlp.gate_proj.weight.abs().amax(0), mlp.up_proj.weight.abs().amax(0))
    expected = seen["x"].abs().amax(0) ** 0.85 / tops**0.15
    expected = expected / (expected.max() * expected.min()).sqrt()
    torch.testing.assert_close(fold["model.layers.1.mlp_in"], expected, rtol=1e-3, atol=0)
    windows = torch.randint(0, 250, (4, 32), generator=torch.Generator().manual_seed(1))
    folded = folded_float_model(peaked_llama_dir, fold)
    expected = load_float(peaked_llama_dir)(windows).logits
    assert float((folded(windows).logits - expected).norm() / expected.norm()) < 1e-4


def test_awq_from_configuration_to_file(peaked_llama_dir: Path, tmp_path: Path) -> None:
    fold, about = fold_from_configuration(
        {"kind": "awq", "bits": [3], "sym": True, "powers_of_two": True, "duo": True}, peaked_llama_dir, tmp_path
    )
    assert len(fold) == 8
    assert (about["bits"], about["sym"], about["duo"], about["powers_of_two"]) == ([3], True, True, True)
    assert all(torch.equal(torch.exp2(torch.log2(s).round()), s) for s in fold.values())
    assert all(after <= before for before, after in about["errors"].values())
    asymmetric, _ = fold_from_configuration(
        {"kind": "awq", "bits": [3], "powers_of_two": True}, peaked_llama_dir, tmp_path
    )
    assert any(not torch.equal(asymmetric[site], fold[site]) for site in fold)
