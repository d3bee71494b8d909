"""The eleven numbers: by hand, under a fold, and the same meaning on every model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from ramp.models.architecture import LinearSpec, list_linears
from ramp.problem.features import FEATURES, SIZE, STATIC, EmbeddingError, read_stats, static_features
from tests.model_folders import read_config
from tests.refusals import refused
from tests.sealed import save_sealed


def spec(name: str, role: str, d_out: int, d_in: int, site: str, index: int) -> LinearSpec:
    return LinearSpec(name, 0, role, d_out, d_in, site, index, False)


def test_values_by_hand() -> None:
    linears = [spec("a", "q", 8, 6, "attn", 0), spec("b", "down", 2, 8, "down", 1)]
    stats = {
        "attn": (np.array([1.0, 100.0, 2.0]), np.array([0.5, 50.0, 5.0])),
        "down": (np.array([10.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0])),
    }
    rows = static_features(linears, stats, {"a": (0.1, 0.2), "b": (0.02, 0.03)})
    assert rows.shape == (2, 9)
    assert rows.dtype == np.float32
    by_name = {FEATURES[index].name: rows[:, column] for column, index in enumerate(STATIC)}
    assert by_name["log10_absmax"] == pytest.approx([1.0, 0.0])
    assert by_name["log10_importance"] == pytest.approx([0.0, -1.0])
    assert by_name["weight_absmean"] == pytest.approx([1.0, 0.2])
    assert by_name["weight_std"] == pytest.approx([2.0, 0.3])
    assert by_name["depth"] == pytest.approx([-1.0, 1.0])
    assert by_name["log2_d_in"] == pytest.approx([(np.log2(6) - 11) / 2, -4.0])
    assert by_name["log2_d_out"] == pytest.approx([-4.0, -5.0])
    assert by_name["is_attention"] == pytest.approx([1.0, 0.0])
    assert by_name["params_percent"] == pytest.approx([149.0, 49.0])  # 75 and 25 percent
    assert SIZE == 11


def test_dead_channels_stay_finite() -> None:
    linears = [spec("a", "q", 8, 6, "attn", 0)]
    zeros = np.zeros(3)
    assert np.isfinite(static_features(linears, {"attn": (zeros, zeros)}, {"a": (0.0, 0.0)})).all()


def test_missing_and_broken_statistics_are_named() -> None:
    linears = [spec("a", "q", 8, 6, "attn", 0)]
    one = np.ones(3)
    stats = {"attn": (one, one)}
    calls = {
        "for attn": lambda: static_features(linears, {}, {"a": (0.1, 0.1)}),
        "moments for a": lambda: static_features(linears, stats, {}),
        "weight_std of a": lambda: static_features(linears, stats, {"a": (0.1, float("nan"))}),
    }
    refused(EmbeddingError, calls)


def test_weight_moments_are_those_of_the_folded_model(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Against an independent reading: the whole state dict folded at once, moments by numpy in float64."""
    from ramp.calibration.folding import apply_fold

    config = read_config(tiny_llama_dir)
    linears = list_linears(config)
    generator = torch.Generator().manual_seed(0)
    fold = {x.site: torch.exp(torch.randn(x.d_in, generator=generator)) for x in linears}
    for site in fold:
        if site.endswith("o_in"):  # one scale per key/value channel, repeated over the group
            fold[site] = fold[site].view(2, 2, 16)[:, :1].expand(2, 2, 16).reshape(-1).contiguous()
    plain = load_file(tiny_llama_dir / "model.safetensors")
    folded = dict(plain)
    apply_fold(folded, fold, config)
    for name, state, given in (("none", plain, {}), ("some", folded, fold)):
        build_bank(
            tiny_llama_dir, None, tmp_path / name, fold=given, fold_name=name, quantizer="rtn", widths=[4],
            group_size=32, device="cpu",
        )  # fmt: skip
        moments = Bank(tmp_path / name).moments
        for linear in linears:
            weight = state[f"{linear.name}.weight"].numpy().astype(np.float64)
            assert moments[linear.name] == pytest.approx((np.abs(weight).mean(), weight.std()), rel=1e-5)


def test_read_stats_divides_by_the_fold(tmp_path: Path) -> None:
    path = tmp_path / "stats.safetensors"
    tensors = {"s.attn_in/absmax": torch.tensor([2.0, 8.0]), "s.attn_in/absmean": torch.tensor([1.0, 4.0])}
    save_sealed(tensors | {"s.attn_in/sqmean": torch.ones(2)}, path)
    absmax, absmean = read_stats(path, {"s.attn_in": torch.tensor([2.0, 4.0])})["s.attn_in"]
    assert absmax.tolist() == [1.0, 2.0]
    assert absmean.tolist() == [0.5, 1.0]
    assert read_stats(path)["s.attn_in"][0].tolist() == [2.0, 8.0]
