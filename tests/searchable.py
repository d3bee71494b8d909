"""Inputs of a search, for a random two-layer model; and evaluators that die as by kill -9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ramp.bank.build import build_bank
from ramp.methods.kinds import Allocator
from ramp.methods.loader import load_method
from ramp.models.architecture import list_linears
from ramp.models.token_windows import Document, write_documents
from ramp.problem.problem import Allocation, Problem, Run
from ramp.scoring.score_type import Score
from ramp.search.journal import ROOT, SearchState
from tests.model_folders import read_config
from tests.sealed import read_json, save_sealed, write_sealed
from tests.synthetic import evaluator, linears, losses, synthetic_problem

WORDS = {"search": "alpha beta gamma ", "selection": "gamma delta ", "heldout": "epsilon zeta "}


def make_searchable(folder: Path, model_dir: Path, widths: Sequence[int]) -> dict[str, Any]:
    """Write texts by role, statistics, no fold, an RTN bank and sensitivities; return the options that name them."""
    for role, words in WORDS.items():
        write_documents(folder / f"{role}.jsonl", [Document(f"{role}-{i}", words * 40 + str(i)) for i in range(3)])
    own = list_linears(read_config(model_dir))
    ones = {f"{x.site}/{kind}": torch.ones(x.d_in) for x in own for kind in ("absmax", "absmean", "sqmean")}
    save_sealed(ones, folder / "stats.safetensors")
    save_sealed({}, folder / "none.safetensors")
    build_bank(
        model_dir, None, folder / "bank",
        fold={}, fold_name="none", quantizer="rtn", widths=list(widths), group_size=32, device="cpu",
    )  # fmt: skip
    proxy = {x.name: {str(bits): x.params * 4.0**-bits * 1e-5 for bits in widths} for x in own}
    write_sealed(folder / "proxy.json", {"proxy": "fisher", "tokens": 300, "linears": proxy})
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


FAST: dict[str, Any] = {
    "clone_steps": 20, "updates_per_episode": 2, "warmup_episodes": 4, "refresh": 3, "sac": {"hidden": 16},
}  # fmt: skip
"""Parameters of a short search of RAMP."""


def allocator(name: str) -> Allocator:
    """The method of ``baselines/NAME.py``."""
    method = load_method(ROOT / "baselines" / f"{name}.py")
    assert isinstance(method, Allocator)
    return method


def allocate(
    name: str, problem: Problem, folder: Path, evals: int, seed: int = 0, **params: Any
) -> tuple[Allocation, list[dict[str, Any]]]:
    """Run a method of baselines/ on a problem; return its allocation and the rows that it logged."""
    rows: list[dict[str, Any]] = []
    method = allocator(name)
    return method.allocate(problem, method.params(**params), Run(seed, evals, folder, rows.append, name)), rows


def journalled(
    state: SearchState, evals: int, budget: float = 3.65, die_at: int | None = None, loss: Any = None
) -> Problem:
    """A problem on two blocks whose scores ``state`` keeps; ``die_at`` raises in that many-th true evaluation."""
    evaluate = state.evaluator("search", Mortal(die_at)(loss or true_loss(0.0)), limit=evals)
    return synthetic_problem(budget=budget, evaluate=evaluate, select=state.evaluator("selection", true_loss(0.05)))


def run_stage(main: Callable[[list[str]], int], options: Mapping[str, Any], *more: object, **changed: Any) -> Any:
    """Run a command line; ``changed`` by option name without dashes. Return the JSON that it writes to --out."""
    options = {**options, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
    words = [part for pair in options.items() for part in pair]
    assert main([str(word) for word in (*words, *more)]) == 0
    return read_json(Path(options["--out"]))
