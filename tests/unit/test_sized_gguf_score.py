"""A GGUF file beside its float model on held-out text, one block in memory, against whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ramp.evaluation.heldout import make_reference
from ramp.export.write import export
from ramp.models.folder import ModelFolder
from ramp.scoring.kl_divergence import head_weight
from ramp.sized_gguf.score import float_reference, score, score_file
from tests.ggml_models import NARROW
from tests.model_folders import load_gguf_float
from tests.tiny_models import edited, random_llama, windows_of


@pytest.mark.parametrize("tied", [True, False])
def test_streamed_scores_are_those_of_whole_models(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit; and no model is whole in memory, which a machine that made the file may not have room for."""
    folder = ModelFolder(random_llama(tmp_path / "float", tied=tied, **NARROW))
    moved = edited(folder.path, tmp_path / "moved", lambda state: [value.mul_(1.01) for value in state.values()])
    export(moved, tmp_path / "moved.gguf")
    windows = windows_of(folder.path, count=3, length=24, seed=3)
    whole = folder.load_float()
    wanted = make_reference(whole, windows, {"model": folder.name})
    found_whole = score(load_gguf_float(folder.path, tmp_path / "moved.gguf"), wanted, head_weight(whole))
    for place in ("ramp.models.folder.ModelFolder.load_float", "ramp.gguf_format.reader.filled_model"):
        monkeypatch.setattr(place, lambda *given, **named: pytest.fail("a whole model was loaded"))
    reference, head = float_reference(folder, windows)
    assert torch.equal(reference.hidden, wanted.hidden)
    assert torch.equal(reference.nll, wanted.nll)
    found = score_file(tmp_path / "moved.gguf", folder, reference, head)
    assert found == found_whole
    assert sum(window["kl"] for window in found) > 0
