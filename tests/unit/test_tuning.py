"""Scales of packed rows tuned by KL: what stays to the bit, what falls, what a kill costs, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ramp.core.errors import RampError
from ramp.evaluation.heldout import evaluate, float_head, make_reference
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, TextError, write_documents
from ramp.quantizers.affine import SCALE_MAX, SCALE_MIN
from ramp.quantizers.store import PARTS
from ramp.rows.checkpoint import CheckpointError, load_dequantized
from ramp.rows.storage_track import store_again
from ramp.rows.tune import main
from ramp.rows.tuned_row import stored_scales, tune_row
from ramp.tuning import train as training
from ramp.tuning.scaled_modules import narrowest
from ramp.tuning.schedule import Schedule, ScheduleError, training_windows
from ramp.tuning.train import TuningError
from tests.rows import write_row
from tests.sealed import read_json
from tests.tiny_models import random_llama

FAST = Schedule(steps=24, batch=4, length=16, rate=1e-2)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the roles' texts."""
    folder = tmp_path_factory.mktemp("texts")
    for place, role in enumerate(("calibration", "train", "heldout", "wikitext2")):
        generator = torch.Generator().manual_seed(place)
        letters = "".join(chr(97 + int(code)) for code in torch.randint(0, 12, (1200,), generator=generator))
        write_documents(folder / f"{role}.jsonl", [Document(f"{role}-0", letters)])
    return folder


@pytest.fixture(scope="module", params=["tied", "untied", "biases"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "biases":
        return request.getfixturevalue("tiny_qwen2_dir")
    return random_llama(tmp_path_factory.mktemp("models") / request.param, tied=request.param == "tied")


def tune(model_dir: Path, row: Path, texts: Path, out: Path, schedule: Schedule = FAST) -> dict[str, Any]:
    """Tune a row on calibration and training text, checkpoints beside the result."""
    both = [texts / "calibration.jsonl", texts / "train.jsonl"]
    return tune_row(row, model_dir, both, schedule, out, out.parent / "state", torch.device("cpu"))


def kl(row: Path, model_dir: Path, texts: Path) -> float:
    """The KL of a row on the training text, by the path of every evaluation."""
    model = ModelFolder(model_dir)
    windows = training_windows(model, [texts / "calibration.jsonl", texts / "train.jsonl"], FAST.length)
    reference = make_reference(model.load_float(), windows, {})
    head = float_head(model_dir, torch.float32, torch.device("cpu"))
    sums = evaluate(load_dequantized(row, model_dir), reference, head)
    return sum(each["kl"] for each in sums) / sum(each["tokens"] for each in sums)


def test_kl_falls_and_nothing_but_scales_and_gains_changes(model_dir: Path, texts: Path, tmp_path: Path) -> None:
    before = write_row(tmp_path / "row", model_dir, bits=3)
    meta = tune(model_dir, tmp_path / "row", texts, tmp_path / "row-tuned")
    assert kl(tmp_path / "row-tuned", model_dir, texts) < 0.85 * kl(tmp_path / "row", model_dir, texts)
    old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("row", "row-tuned"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    linears = ModelFolder(model_dir).linears
    assert changed == {name for name in old if name.endswith(".scales") or "norm" in name}
    assert {f"{linear.name}.scales" for linear in linears} < changed
    assert {name: (t.dtype, t.shape) for name, t in old.items()} == {n: (t.dtype, t.shape) for n, t in new.items()}
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("row", "row-tuned")]
    assert sizes[0] == sizes[1] == meta["bytes_file"] == before["bytes_file"]
    assert (meta["stage"], meta["tuned"]["tokens"]) == ("tuned", 24 * 4 * 16)
    assert read_json(tmp_path / "row-tuned" / "meta.json") == meta
    assert not list((tmp_path / "state").iterdir())


def test_a_killed_run_ends_with_the_same_bytes(model_dir: Path, texts: Path, tmp_path: Path) -> None:
    write_row(tmp_path / "row", model_dir)
    tune(model_dir, tmp_path / "row", texts, tmp_path / "whole")
    original, calls = training.add_gradients, []

    def killed(*given: Any) -> float:
        calls.append(1)
        if len(calls) > 15:
            raise KeyboardInterrupt
        return original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "add_gradients", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(model_dir, tmp_path / "row", texts, tmp_path / "again")
    [checkpoint] = (tmp_path / "state").iterdir()
    assert not (tmp_path / "again").exists()
    calls.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "add_gradients", lambda *given: calls.append(1) or original(*given))
        tune(model_dir, tmp_path / "row", texts, tmp_path / "again")
    assert len(calls) == 24 - 10  # from the last checkpoint on
    assert not checkpoint.exists()
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert files[0] == files[1]


def test_another_schedule_or_row_starts_afresh(tmp_path: Path, texts: Path, tiny_llama_dir: Path) -> None:
    """A checkpoint is named by all that it depends on: else a run would go on from another's scales."""
    write_row(tmp_path / "row", tiny_llama_dir)
    write_row(tmp_path / "other", tiny_llama_dir, bits=3)
    found = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ramp.rows.tuned_row.train", lambda *given: found.add(given[-1].parent.name) or 1 / 0)
        for row, schedule in (("row", FAST), ("row", Schedule(steps=24, batch=4, length=16)), ("other", FAST)):
            with pytest.raises(ZeroDivisionError):
                tune(tiny_llama_dir, tmp_path / row, texts, tmp_path / "out", schedule)
    assert len(found) == 3


@pytest.mark.parametrize("role", ["heldout", "wikitext2"])
def test_text_that_judges_is_refused_under_any_name(
    role: str, tmp_path: Path, texts: Path, tiny_llama_dir: Path
) -> None:
    write_row(tmp_path / "row", tiny_llama_dir)
    arguments = ["--row-dir", tmp_path / "row", "--model-dir", tiny_llama_dir, "--state-dir", tmp_path / "state"]
    command = [*map(str, arguments), "--out", str(tmp_path / "out"), "--length", "16", "--steps", "1", "--text"]
    with pytest.raises(TextError, match=f"'{role}'"):
        main([*command, str(texts / "calibration.jsonl"), str(texts / f"{role}.jsonl")])
    renamed = tmp_path / "texts"
    renamed.mkdir()
    for name, source in (("train", role), (role, role)):
        (renamed / f"{name}.jsonl").write_bytes((texts / f"{source}.jsonl").read_bytes())
    with pytest.raises(TextError, match=f"'{role}'"):
        main([*command, str(renamed / "train.jsonl")])
    assert not (tmp_path / "out").exists()
    assert main([*command, str(texts / "train.jsonl")]) == 0


def test_rows_that_are_not_final_ones_of_ours_are_refused(tmp_path: Path, texts: Path, tiny_llama_dir: Path) -> None:
    write_row(tmp_path / "row", tiny_llama_dir)
    store_again(tmp_path / "row", tiny_llama_dir, "fp16", tmp_path / "fp16")
    short = Schedule(steps=1, batch=1, length=16)
    tune(tiny_llama_dir, tmp_path / "row", texts, tmp_path / "tuned", short)
    for row in ("fp16", "tuned"):
        with pytest.raises(CheckpointError, match="only final affine rows"):
            tune(tiny_llama_dir, tmp_path / row, texts, tmp_path / "out", short)
    other = random_llama(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(RampError, match="pass the folder of its model"):
        tune(other, tmp_path / "row", texts, tmp_path / "out", short)
    other = other.rename(tmp_path / tiny_llama_dir.name)
    with pytest.raises(CheckpointError, match="other linears"):
        tune(other, tmp_path / "row", texts, tmp_path / "out", short)
    (tmp_path / "row" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RampError, match="cut off"):
        tune(tiny_llama_dir, tmp_path / "row", texts, tmp_path / "out", short)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(value: float, tmp_path: Path, texts: Path, tiny_llama_dir: Path) -> None:
    write_row(tmp_path / "row", tiny_llama_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "add_gradients", lambda *given: value)
        with pytest.raises(TuningError, match="step 1"):
            tune(tiny_llama_dir, tmp_path / "row", texts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gradient_that_is_not_finite_is_refused(tmp_path: Path, texts: Path, tiny_llama_dir: Path) -> None:
    write_row(tmp_path / "row", tiny_llama_dir)

    def spoiled(student: Any, *given: Any) -> float:
        change = next(each for name, each in student.named_parameters() if name.endswith("change"))
        change.grad = torch.full_like(change, float("nan"))
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "add_gradients", spoiled)
        with pytest.raises(TuningError, match="not finite"):
            tune(tiny_llama_dir, tmp_path / "row", texts, tmp_path / "out")


def test_scales_are_rounded_to_float16_and_stay_positive() -> None:
    scales = torch.tensor([[[1.0 + 2**-12, 1.0 + 3 * 2**-12, -0.5, 1e-9, SCALE_MAX]]])
    expected = torch.tensor([[1.0, 1.0 + 2**-10, SCALE_MIN, SCALE_MIN, SCALE_MAX]], dtype=torch.float16)
    assert torch.equal(stored_scales(scales, "a"), expected)
    for value in (float("nan"), 70_000.0, float("inf")):
        with pytest.raises(TuningError, match="float16"):
            stored_scales(torch.full((1, 1, 1), value), "a")


def test_a_basis_is_kept_in_the_narrowest_type_that_holds_it() -> None:
    rng = torch.Generator().manual_seed(0)
    for low, high, dtype in ((-127, 128, torch.int8), (-255, 256, torch.float16), (-5000, 5000, torch.float32)):
        basis = torch.randint(low, high, (400,), generator=rng).float()
        basis[0] = high - 1
        found = narrowest(basis)
        assert found.dtype == dtype
        assert torch.equal(found.float(), basis)
    assert narrowest(torch.tensor([0.1])).dtype == torch.float32


def test_windows_are_read_once_while_there_are_new_ones() -> None:
    windows = torch.arange(10).unsqueeze(1)
    used, order = Schedule(steps=2, batch=3).drawn(windows)
    assert (len(used), sorted(order.flatten().tolist())) == (6, list(range(6)))
    used, order = Schedule(steps=5, batch=5).drawn(windows)
    counts = torch.bincount(order.flatten())
    assert used.flatten().tolist() == list(range(10))
    assert (len(counts), int(counts.min()), int(counts.max())) == (10, 2, 3)
    assert not torch.equal(order, Schedule(steps=5, batch=5, seed=1).drawn(windows)[1])


def test_the_rate_rises_and_ends_near_zero() -> None:
    schedule = Schedule(steps=100, rate=1e-3, warmup=10)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-6
    assert Schedule(steps=4).rate_at(3) < 0.5 * Schedule().rate  # a short one falls, too
    for wrong in ({"steps": 0}, {"rate": 0.0}, {"rate": 1.0}, {"seed": -1}):
        with pytest.raises(ScheduleError, match="train nothing"):
            Schedule(**wrong)


def test_parts_of_a_packed_linear_are_known() -> None:
    """The first test counts on it: a part besides these would have to be frozen or trained."""
    assert PARTS == ("codes", "scales", "zeros")
