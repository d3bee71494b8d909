"""Weight-error and measured-KL sensitivities against float64 computed by hand, and what a method may ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ramp.bank.bank import Bank, BankError
from ramp.bank.build import build_bank
from ramp.calibration.folding import folded_float_model
from ramp.core.tensor_file import save_tensors
from ramp.methods.kinds import MethodError
from ramp.methods.loader import load_method
from ramp.models.folder import ModelFolder
from ramp.problem.proxy import read_proxy
from ramp.scoring.kl_divergence import Scorer
from ramp.search.setup import check_proxy
from ramp.sensitivity.__main__ import main
from ramp.sensitivity.measured_kl import kl_proxy
from ramp.sensitivity.setting import SensitivityError, Setting
from ramp.sensitivity.weight_error import coefficients, plain, relative_errors
from tests.sealed import read_json, write_sealed
from tests.tiny_models import exact_scores, write_text

REPO = Path(__file__).resolve().parents[2]
FOLD = {"model.layers.1.mlp_in": torch.linspace(0.5, 2.0, 64)}


def setting_of(model_dir: Path, bank: Bank, windows: torch.Tensor, seed: int = 0) -> Setting:
    return Setting(bank, ModelFolder(model_dir), FOLD, windows, seed=seed)


def windows_of(count: int, length: int = 32, seed: int = 6) -> torch.Tensor:
    return torch.randint(2, 258, (count, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def bank(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("bank") / "some-rtn"
    build_bank(
        tiny_llama_dir, None, folder, fold=FOLD, fold_name="some", quantizer="rtn", widths=[3, 4, 6], group_size=32,
        device="cpu",
    )  # fmt: skip
    return Bank(folder)


def kl_by_hand(model_dir: Path, bank: Bank, windows: torch.Tensor, changes: dict[str, torch.Tensor]) -> float:
    """Mean KL per token to the float model in float64, some weights replaced."""
    return float(exact_scores(folded_float_model(model_dir, FOLD), windows, changes)[0].mean())


def test_single_linear_kl_is_what_it_says(tiny_llama_dir: Path, bank: Bank) -> None:
    windows = windows_of(4)
    values = kl_proxy(setting_of(tiny_llama_dir, bank, windows))
    assert values.shape == (14, 3)
    for i, a in ((0, 0), (6, 1), (8, 2), (13, 0)):
        name, bits = bank.linears[i].name, bank.widths[a]
        expected = kl_by_hand(tiny_llama_dir, bank, windows, {name: bank.dequantize(name, bits)})
        assert values[i, a] == pytest.approx(expected, rel=0.02, abs=2e-6)
    assert (values[:, 0] > values[:, 2]).all()


@pytest.mark.parametrize("kind", ["kl", "kl_cheapest"])
def test_streamed_candidates_score_as_whole_models(
    tiny_llama_dir: Path, bank: Bank, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit against one whole pass for each, in one round of candidates and in a round for each block."""
    windows = windows_of(4)
    model = folded_float_model(tiny_llama_dir, FOLD)
    scorer = Scorer(model, windows)
    held = {x.name: 0 for x in bank.linears} if kind == "kl_cheapest" else {}
    for name, index in held.items():
        model.get_submodule(name).weight.data.copy_(bank.dequantize(name, bank.widths[index]))
    base, expected = scorer.score(model).kl, np.zeros((14, 3))
    for i, linear in enumerate(bank.linears):
        weight = model.get_submodule(linear.name).weight.data
        old = weight.clone()
        for a, bits in enumerate(bank.widths):
            if held.get(linear.name) != a:
                weight.copy_(bank.dequantize(linear.name, bits))
                expected[i, a] = scorer.score(model).kl - base
        weight.copy_(old)
    for room in (1 << 30, 0):
        monkeypatch.setattr("ramp.sensitivity.one_linear.CPU_ROUND_BYTES", room)
        found = kl_proxy(setting_of(tiny_llama_dir, bank, windows), kind)
        assert np.array_equal(found, expected if held else expected.clip(min=0))


def test_in_the_cheapest_allocation_it_is_the_change(tiny_llama_dir: Path, bank: Bank) -> None:
    windows = windows_of(4)
    values = kl_proxy(setting_of(tiny_llama_dir, bank, windows), "kl_cheapest")
    cheapest = {x.name: bank.dequantize(x.name, 3) for x in bank.linears}
    base = kl_by_hand(tiny_llama_dir, bank, windows, cheapest)
    assert (values[:, 0] == 0).all()
    for i, a in ((2, 1), (6, 2), (13, 1)):
        name = bank.linears[i].name
        raised = {**cheapest, name: bank.dequantize(name, bank.widths[a])}
        expected = kl_by_hand(tiny_llama_dir, bank, windows, raised) - base
        assert values[i, a] == pytest.approx(expected, rel=0.02, abs=1e-4 * base)
    assert values[:, 1:].sum() < 0


def test_relative_errors_are_frobenius_norms_of_the_folded_weights(tiny_llama_dir: Path, bank: Bank) -> None:
    model = folded_float_model(tiny_llama_dir, FOLD)
    squares = relative_errors(setting_of(tiny_llama_dir, bank, windows_of(1)).runner(), bank)
    for i in (0, 11, 13):  # 11 is a gate, whose columns are folded
        name = bank.linears[i].name
        weight = model.get_submodule(name).weight.double().numpy()
        for a, bits in enumerate(bank.widths):
            error = bank.dequantize(name, bits).double().numpy() - weight
            expected = np.linalg.norm(error, "fro") ** 2 / np.linalg.norm(weight, "fro") ** 2
            assert squares[i, a] == pytest.approx(expected, rel=1e-5)
    assert (np.diff(squares, axis=1) < 0).all()
    share = plain(squares, bank) / squares
    assert share.sum() == pytest.approx(len(bank.widths))
    assert share[6, 0] == pytest.approx(2 * share[0, 0])  # down has twice the weights of q


def test_noise_costs_what_its_square_times_the_coefficient_says(tiny_llama_dir: Path, bank: Bank) -> None:
    """The theorem itself: one coefficient per linear holds for another size and another draw."""
    setting, other = (setting_of(tiny_llama_dir, bank, windows_of(16), seed) for seed in (0, 1))
    one = coefficients(setting)
    assert (one > 0).all()
    assert np.abs(np.log(coefficients(other, 0.05) / one)).max() < np.log(1.5)
    assert np.array_equal(one, coefficients(setting))


def test_on_plain_rounding_the_theorem_predicts_the_measured_kl(tiny_llama_dir: Path, bank: Bank) -> None:
    """RTN's errors know nothing of the data: predicted over measured is near 1 at all widths together."""
    setting = setting_of(tiny_llama_dir, bank, windows_of(16))
    predicted = coefficients(setting)[:, None] * relative_errors(setting.runner(), bank)
    ratio = np.log(predicted / kl_proxy(setting))
    assert abs(ratio.mean()) < np.log(1.3)
    assert ratio.std() < np.log(2)


def test_faults_are_one_sentence(tiny_llama_dir: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Bank.dequantize
    monkeypatch.setattr(Bank, "dequantize", lambda *args, **more: read(*args, **more) * float("nan"))
    with pytest.raises(SensitivityError, match=r"q_proj at 3 bits .*--dtype"):
        kl_proxy(setting_of(tiny_llama_dir, bank, windows_of(1)))


@pytest.fixture
def line(tiny_llama_dir: Path, bank: Bank, tmp_path: Path) -> list[str]:
    """Command line of the stage, without kind and output."""
    fold_file = tmp_path / "some.safetensors"
    text = write_text(tmp_path / "calibration.jsonl", "An otter crossed the weir at dusk. ")
    save_tensors(fold_file, FOLD, {"kind": "awq"})
    made = {"model-dir": tiny_llama_dir, "bank": bank.path, "fold": fold_file, "text": text, "windows": 2, "length": 64}
    return [part for name, value in made.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("kind", "evaluations"),
    [("kl", 14 * 3 + 1), ("kl_cheapest", 14 * 2 + 1), ("error", 14 + 1), ("error_plain", 0)],
)
def test_command_lines_count_their_tokens(
    kind: str, evaluations: int, line: list[str], bank: Bank, tmp_path: Path
) -> None:
    out = tmp_path / f"{kind}.json"
    assert main([*line, "--kind", kind, "--out", str(out)]) == 0
    record = read_json(out)
    assert record["proxy"] == kind
    assert record["evaluations"] == evaluations
    assert record["tokens"] == (2 * 64 * (evaluations + 1) if evaluations else 0)
    values, tokens = read_proxy(out, bank.linears, bank.widths)  # as the search reads it
    assert values.shape == (14, 3)
    assert np.isfinite(values).all()
    assert tokens == record["tokens"]
    other = [str(tmp_path / "none.safetensors") if part.endswith("some.safetensors") else part for part in line]
    with pytest.raises(BankError, match="'some'"):
        main([*other, "--kind", kind, "--out", str(out)])


def test_a_search_takes_the_kind_that_its_method_names_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    folder = REPO / "baselines"
    file = tmp_path / "kl.json"
    write_sealed(file, {"proxy": "kl", "tokens": 1, "linears": {}})
    check_proxy(file, load_method(folder / "knapsack.py:knapsack_kl"))
    with pytest.raises(MethodError, match=r"'fisher', .*kl\.json"):
        check_proxy(file, load_method(folder / "knapsack.py"))
    text = (folder / "knapsack.py").read_text().replace('"proxy": "kl"', '"proxy": "kl_cheap"')
    (tmp_path / "knapsack.py").write_text(text)
    with pytest.raises(MethodError, match="'kl_cheapest'"):
        load_method(tmp_path / "knapsack.py")
