"""What a search reads, for a random two-layer model; and evaluators that die as by kill -9."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ramp.bank.build import build_bank
from ramp.models.architecture import list_linears
from ramp.models.token_windows import Document, write_documents
from ramp.scoring.score_type import Score
from tests.model_folders import read_config
from tests.synthetic import evaluator, linears, losses

WORDS = {"search": "alpha beta gamma ", "selection": "gamma delta ", "heldout": "epsilon zeta "}


def make_searchable(folder: Path, model_dir: Path, widths: Sequence[int]) -> dict[str, Any]:
    """Write texts by role, statistics, no fold, an RTN bank and sensitivities; return the options that name them."""
    for role, words in WORDS.items():
        write_documents(folder / f"{role}.jsonl", [Document(f"{role}-{i}", words * 40 + str(i)) for i in range(3)])
    own = list_linears(read_config(model_dir))
    ones = {f"{x.site}/{kind}": torch.ones(x.d_in) for x in own for kind in ("absmax", "absmean", "sqmean")}
    save_file(ones, folder / "stats.safetensors")
    save_file({}, folder / "none.safetensors")
    build_bank(
        model_dir, None, folder / "bank",
        fold={}, fold_name="none", quantizer="rtn", widths=list(widths), group_size=32, device="cpu",
    )  # fmt: skip
    proxy = {x.name: {str(bits): x.params * 4.0**-bits * 1e-5 for bits in widths} for x in own}
    (folder / "proxy.json").write_text(json.dumps({"proxy": "fisher", "tokens": 300, "linears": proxy}))
    return {
        "--model-dir": model_dir,
        "--bank": folder / "bank",
        "--fold": folder / "none.safetensors",
        "--calibration": folder / "stats.safetensors",
        "--sensitivity": folder / "proxy.json",
        "--search-text": folder / "search.jsonl",
        "--selection-text": folder / "selection.jsonl",
        "--device": "cpu",
        "--dtype": "float32",
        "--state-dir": folder / "state",
    }


class KilledError(Exception):
    """Stands for kill -9 in the middle of an evaluation."""


class Mortal:
    """Makes evaluators of which the ``die_at``-th call of all raises ``KilledError``."""

    def __init__(self, die_at: int | None) -> None:
        self.calls, self.die_at = 0, die_at

    def __call__(self, raw: Callable[[np.ndarray], Score]) -> Callable[[np.ndarray], Score]:
        def score(choice: np.ndarray) -> Score:
            self.calls += 1
            if self.calls == self.die_at:
                raise KilledError
            return raw(choice)

        return score


def true_loss(noise: float) -> Callable[[np.ndarray], Score]:
    """Return the loss of ``tests.synthetic`` on two blocks."""
    _, truth, pairs = losses(linears(2), (3, 4, 5, 6), 0)
    return evaluator(truth, pairs, noise)
