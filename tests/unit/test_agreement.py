"""A folder that disagrees with itself is refused by whatever reads it first, in one sentence; others are read right."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ramp.assets.checkpoint import link_checkpoint
from ramp.calibration.stream import each_block, stream
from ramp.core.errors import RampError
from ramp.evaluation.__main__ import main as evaluation
from ramp.evaluation.heldout import float_head
from ramp.export.write import export
from ramp.methods.package_job import JobSettings
from ramp.models.device import pick_dtype
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.packages.prepare_job import write_job
from tests.disagreeing_folders import FILES, RIGHT, TENSORS, faulty
from tests.tiny_models import edited, sharded, windows_of, write_letters


@pytest.mark.parametrize("name", [*TENSORS, *FILES])
def test_every_disagreement_is_refused(name: str, tiny_llama_dir: Path, tmp_path: Path) -> None:
    folder, words = faulty(tiny_llama_dir, tmp_path / "model", name)
    with pytest.raises(RampError) as caught:
        ModelFolder(folder).check()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["final norm missing", "fp8, not configured", "another vocabulary", "pickle alone"])
def test_every_stage_that_reads_a_folder_refuses_it(name: str, tiny_llama_dir: Path, tmp_path: Path) -> None:
    folder, words = faulty(tiny_llama_dir, tmp_path / "model", name)
    text, windows = write_letters(tmp_path / "text.jsonl", 600), torch.zeros(1, 16, dtype=torch.int64)
    settings = JobSettings(4, 64, 0, 1, "cpu", {})
    reference = ["reference", "--model-dir", str(folder), "--text", f"heldout={text}", "--length", "16"]
    (tmp_path / "linked").mkdir()
    readers: dict[str, Any] = {
        "calibration, folds, banks and rows": lambda: stream(folder, windows, lambda block: None, device="cpu"),
        "sensitivities": lambda: next(iter(each_block(folder, device="cpu"))),
        "float model": lambda: ModelFolder(folder).load_float(),
        "evaluation reference": lambda: evaluation([*reference, "--out", str(tmp_path / "reference")]),
        "evaluation row": lambda: float_head(folder, torch.float32, torch.device("cpu")),
        "export": lambda: export(folder, tmp_path / "float.gguf"),
        "package": lambda: write_job(tmp_path / "job", folder, windows, settings),
        "import": lambda: link_checkpoint(folder, tmp_path / "linked"),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for stage, read in readers.items():
        with pytest.raises(RampError) as caught:
            read()
        assert all(word in str(caught.value) for word in words), (stage, str(caught.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # nothing was written
    assert not any((tmp_path / "linked").iterdir())


@pytest.mark.parametrize("name", RIGHT)
def test_folders_that_agree_are_the_model_of_their_tensors(name: str, tiny_llama_dir: Path, tmp_path: Path) -> None:
    change, config = RIGHT[name]
    folder = ModelFolder(edited(tiny_llama_dir, tmp_path / "model", change, **config))
    model, stored = folder.load_float(), load_file(folder.path / "model.safetensors")
    held = {key: value for key, value in stored.items() if "inv_freq" not in key}
    held.setdefault("lm_head.weight", stored["model.embed_tokens.weight"])
    assert held.keys() == model.state_dict().keys()
    assert all(torch.equal(value, held[key].float()) for key, value in model.state_dict().items())
    seen = torch.zeros(0)

    def last(states: torch.Tensor) -> None:
        nonlocal seen
        seen = model.model.norm(states)

    windows = windows_of(folder.path, 2, 16, seed=0)
    stream(folder.path, windows, lambda block: None, device="cpu", result=last)
    logits = torch.nn.functional.linear(seen, float_head(folder.path, torch.float32, torch.device("cpu")))
    torch.testing.assert_close(logits, model(windows).logits, atol=1e-4, rtol=1e-4)


def test_only_headers_are_read(tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    rows = CheckpointReader.rows
    monkeypatch.setattr(CheckpointReader, "get", lambda reader, name: pytest.fail(f"{name} was read"))
    monkeypatch.setattr(
        CheckpointReader, "rows", lambda reader, name, at: (read.append(name), rows(reader, name, at))[1]
    )
    ModelFolder(tiny_llama_dir).check()
    assert read == []
    change, config = RIGHT["equal copy of the embedding"]
    ModelFolder(edited(tiny_llama_dir, tmp_path / "tied", change, **config)).check()
    assert {*read} == {"lm_head.weight", "model.embed_tokens.weight"}


def test_released_bytes_are_those_of_the_checkpoint(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Mistral-7B-v0.3 has the same weights once more as consolidated.safetensors."""
    folder = edited(tiny_llama_dir, tmp_path / "model", lambda state: None)
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "linked").mkdir()
    found = link_checkpoint(sharded(folder), tmp_path / "linked")
    assert found["released_bytes"] == sum(path.stat().st_size for path in folder.glob("model-*.safetensors"))


def test_a_log_says_that_weights_are_rounded(
    tiny_llama_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, config = RIGHT["half precision"]
    folder = edited(tiny_llama_dir, tmp_path / "half", change, **config)
    with caplog.at_level(logging.INFO, logger="ramp"):
        kept = [pick_dtype(name, folder) for name in ("float32", "float16", "checkpoint")]
        assert kept == [torch.float32, torch.float16, torch.float16]
        assert "rounded" not in caplog.text
        assert pick_dtype("bfloat16", folder) == torch.bfloat16
    assert "stored as float16 and rounded to bfloat16" in caplog.text


@pytest.mark.parametrize(
    ("kinds", "held"),
    [(["bfloat16"], "bfloat16"), (["float16", "bfloat16"], "float32"), (["float16", "float32"], "float32")],
)
def test_the_dtype_of_a_checkpoint_holds_all_its_linears(
    tiny_llama_dir: Path, tmp_path: Path, kinds: list[str], held: str
) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        for index, name in enumerate(sorted(name for name in state if "proj" in name)):
            state[name] = state[name].to(getattr(torch, kinds[index % len(kinds)]))

    folder = ModelFolder(edited(tiny_llama_dir, tmp_path / "model", change))
    assert folder.stored_dtype == getattr(torch, held)
    assert folder.rounding(torch.float16)
    assert not folder.rounding(torch.float32)
