"""Compare switches of the search on synthetic models whose loss is known in full, in about a second per search.

    python -m benchmarks.search_lab --seeds 20 --evals 100 --variants '{"default": {}, "pool": {"pool_windows": 128}}'

Every seed draws a model: true sensitivities theta [n, w] with the roles and sizes of a small Llama; pairwise
interactions; for every window of text its own level and its own sensitivities (lognormal around theta's); luck, the
deviation of one allocation from that sum, part of it common to all text and part of it the window's. The proxy is theta
with errors, measured on other text. The search sees windows; held-out loss is the expectation over windows. The spreads
are those measured on real models (docs/decisions.md); they are arguments, so that a conclusion can be tested on others.

It prints, per variant, the held-out KL over that of the knapsack on the proxy, geometric mean over seeds with the
standard error of its logarithm, and the gain that the search saw on its own text. Network updates are off unless a
variant turns them on: they take most of the time, and the additive critic proposes without them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ramp.agent.params import RampParams
from ramp.agent.search_loop import search
from ramp.allocators import knapsack
from ramp.core.atomic_files import write_json
from ramp.models.architecture import ROLES, SITES, LinearSpec
from ramp.problem.budget import budget_bytes
from ramp.problem.problem import Evaluator, Problem, Run
from ramp.quantizers.sizes import bytes_matrix
from ramp.scoring.score_type import Score

SHAPES = {"q": (576, 576), "k": (192, 576), "v": (192, 576), "o": (576, 576)} | {
    "gate": (1536, 576),
    "up": (1536, 576),
    "down": (576, 1536),
}
"""(d_out, d_in) of SmolLM2-135M's linears."""

GROUP_SIZE = 64
FAST: dict[str, Any] = {"clone_steps": 0, "clone_weight": 0.0, "distil_steps": 0, "updates_per_episode": 0}
FAST_SAC = {"hidden": 8}


class LabParams(BaseModel):
    """The spreads of the laboratory's models; all standard deviations of logarithms unless said otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocks: int = Field(default=10, gt=0, description="decoder blocks of seven linears")
    widths: tuple[int, ...] = Field(default=(3, 4, 5, 6), description="bits of the menu")
    budget: float = Field(default=3.65, gt=0, description="bits per weight of the budget")
    kl: float = Field(default=0.2, gt=0, description="held-out KL of the knapsack's allocation, about, in nats")
    sensitivity: float = Field(default=1.0, ge=0, description="between linears, beyond their sizes")
    proxy_linear: float = Field(default=0.25, ge=0, description="the proxy's error of a linear as a whole")
    proxy_cell: float = Field(default=0.1, ge=0, description="the proxy's error of one width of a linear")
    proxy_windows: int = Field(default=16, gt=0, description="windows that the proxy was measured on")
    level: float = Field(default=0.35, ge=0, description="between windows: how much any allocation loses there")
    window: float = Field(default=0.8, ge=0, description="one linear in one window against its mean over windows")
    pairs: float = Field(default=0.05, ge=0, description="interactions, as a fraction of sqrt(theta_i theta_j)")
    luck: float = Field(default=0.005, ge=0, description="one allocation against the sum, on all text; a fraction")
    luck_window: float = Field(default=0.03, ge=0, description="the same in one window alone; a fraction")


class Text:
    """Windows of text, each with a level and sensitivities of its own."""

    def __init__(self, lab: Lab, windows: int, label: int) -> None:
        rng = np.random.default_rng([lab.seed, label, 0x7E7])
        p = lab.params
        level = rng.normal(size=(windows, 1)) * p.level - p.level**2 / 2  # mean 1 after exp
        own = rng.normal(size=(windows, lab.n)) * p.window - p.window**2 / 2
        self.lab, self.label = lab, label
        self.level, self.weights = np.exp(level[:, 0]), np.exp(level + own)  # [windows], [windows, n]

    def losses(self, choice: np.ndarray) -> np.ndarray:
        """Return the KL of an allocation on every window, [windows]."""
        terms, pairs = self.lab.terms(choice)
        seed = [self.lab.seed, self.label, zlib.crc32(np.ascontiguousarray(choice, dtype=np.int64).tobytes())]
        noise = 1 + self.lab.params.luck_window * np.random.default_rng(seed).normal(size=len(self.level))
        return np.maximum((self.weights @ terms + self.level * pairs) * self.lab.luck(choice) * noise, 1e-9)

    def scorer(self, windows: slice) -> Evaluator:
        """Return an evaluator of some windows; 128 tokens each."""
        count = len(range(*windows.indices(len(self.level))))

        def score(choice: np.ndarray) -> Score:
            kl = float(self.losses(choice)[windows].mean())
            return Score(kl, float(np.exp(3 + kl)), 3 + kl, 128 * count)

        return Evaluator(score)

    def parts(self, size: int) -> list[Evaluator]:
        """Return evaluators of the windows in parts of ``size``."""
        return [self.scorer(slice(k, k + size)) for k in range(0, len(self.level), size)]


class Lab:
    """A drawn model."""

    def __init__(self, params: LabParams, seed: int) -> None:
        self.params, self.seed = params, seed
        self.linears = [
            LinearSpec(f"m.{b}.{r}", b, r, *SHAPES[r], f"m.{b}.{SITES[r]}", 7 * b + k, False)
            for b in range(params.blocks)
            for k, r in enumerate(ROLES)
        ]
        self.n = len(self.linears)
        rng = np.random.default_rng([seed, 0x1AB])
        params_of = np.array([x.params for x in self.linears], dtype=float)
        size = np.exp(params.sensitivity * rng.normal(size=self.n)) * params_of
        steps = np.array(params.widths) - params.widths[0]
        self.theta = size[:, None] * 4.0 ** -(steps[None, :] + 0.1 * rng.normal(size=(self.n, 1)) * steps)
        self.sizes = bytes_matrix(self.linears, params.widths, GROUP_SIZE)
        self.budget = budget_bytes(self.linears, params.budget, GROUP_SIZE)
        draws = rng.normal(size=(self.n, self.n)) * params.pairs
        self.pairs = np.triu(draws, 1) + np.triu(draws, 1).T
        best = knapsack.solve(self.theta, self.sizes, self.budget)
        self.theta *= params.kl / self.theta[np.arange(self.n), best].sum()
        seen = Text(self, params.proxy_windows, 99).weights.mean(axis=0)
        error = params.proxy_linear * rng.normal(size=(self.n, 1)) + params.proxy_cell * rng.normal(
            size=self.theta.shape
        )
        self.proxy = self.theta * np.exp(error) * seen[:, None]

    def terms(self, choice: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the additive terms [n] of an allocation and the sum of its interactions."""
        terms = self.theta[np.arange(self.n), choice]
        root = np.sqrt(terms)
        return terms, 0.5 * float(root @ self.pairs @ root)

    def luck(self, choice: np.ndarray) -> float:
        """Return the factor by which one allocation deviates from the sum, on any text."""
        key = zlib.crc32(np.ascontiguousarray(choice, dtype=np.int64).tobytes())
        return 1 + self.params.luck * float(np.random.default_rng([self.seed, key]).normal())

    def held(self, choice: np.ndarray) -> float:
        """Return the KL over all text: the expectation over windows."""
        terms, pairs = self.terms(choice)
        return float((terms.sum() + pairs) * self.luck(choice))

    def problem(self, switches: RampParams, evals: int) -> Problem:
        """Return the problem with fresh counters, and text in parts as the switches ask for."""
        whole, chosen = Text(self, 16, 1), Text(self, 16, 2)
        pool = Text(self, switches.pool_windows, 3) if switches.pool_windows else None
        evaluate = whole.scorer(slice(None))
        evaluate.limit = evals
        features = np.random.default_rng([self.seed, 5]).normal(size=(self.n, 9)).astype(np.float32)
        return Problem(
            model="laboratory",
            linears=self.linears,
            widths=self.params.widths,
            bytes=self.sizes,
            budget_bytes=self.budget,
            budget_bits=self.params.budget,
            features=features,
            proxy=self.proxy,
            evaluate=evaluate,
            select=chosen.scorer(slice(None)),
            proxy_tokens=7 * 128 * self.params.proxy_windows,
            nll_float=3.0,
            bytes_at=lambda bits: budget_bytes(self.linears, bits, GROUP_SIZE),
            search_parts=pool.parts(switches.part_windows) if pool else (),
            part_cost=switches.part_windows / 16,
        )


class Outcome(NamedTuple):
    """The outcome of one search."""

    held: float  # log of held-out KL over that of the proxy's knapsack
    seen: float  # log of the best loss seen over the start's, on what the search scored
    tokens: int  # forward tokens, proxy included
    seconds: float


def try_variant(lab: Lab, values: dict[str, Any], evals: int, seed: int) -> Outcome:
    """Search once with ``values`` over the fast defaults."""
    merged = {**FAST, **values, "sac": {"entropy_in_target": False, **FAST_SAC, **values.get("sac", {})}}
    switches = RampParams(**merged)
    problem = lab.problem(switches, evals)
    rows: list[dict[str, Any]] = []
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(seed=seed, evals=evals, out_dir=Path(folder), log=rows.append)
        found = search(problem, switches, run)
    if found.start_choice is None:
        raise SystemExit("a variant without a warm start cannot be compared: set warm_start")
    counters: list[Any] = [problem.evaluate, problem.select, *problem.search_parts]
    return Outcome(
        held=float(np.log(lab.held(found.choice) / lab.held(found.start_choice))),
        seen=float(np.log(rows[-1]["best"] / rows[0]["kl"])),
        tokens=problem.proxy_tokens + sum(counter.tokens for counter in counters),
        seconds=time.process_time() - began,
    )


def compare(
    variants: dict[str, dict[str, Any]],
    params: LabParams,
    seeds: Sequence[int],
    evals: int,
) -> dict[str, Any]:
    """Run every variant on every seed's model; return the summary by variant."""
    found: dict[str, Any] = {}
    for name, values in variants.items():
        outcomes = [try_variant(Lab(params, seed), values, evals, seed) for seed in seeds]
        held = np.array([outcome.held for outcome in outcomes])
        found[name] = {
            "held": float(held.mean()),
            "held_error": float(held.std(ddof=1) / np.sqrt(len(held))) if len(held) > 1 else None,
            "seen": float(np.mean([outcome.seen for outcome in outcomes])),
            "tokens": float(np.mean([outcome.tokens for outcome in outcomes])),
            "seconds": float(np.mean([outcome.seconds for outcome in outcomes])),
            "by_seed": held.tolist(),
            "switches": values,
        }
        error = found[name]["held_error"]
        print(
            f"{name:28s} held-out {100 * (np.exp(held.mean()) - 1):+6.2f} %"
            f" +- {100 * error if error is not None else float('nan'):.2f}"
            f"  seen {100 * (np.exp(found[name]['seen']) - 1):+6.2f} %"
            f"  {found[name]['tokens'] / 1000:.0f}k tokens  {found[name]['seconds']:.2f} s"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Compare switches of the search on synthetic models.")
    parser.add_argument("--variants", default='{"default": {}}', help="JSON: name -> switches (ramp/agent/params.py)")
    parser.add_argument("--lab", default="{}", help="JSON: spreads of the laboratory (LabParams)")
    parser.add_argument("--seeds", type=int, default=20, help="models drawn, one search each")
    parser.add_argument("--first-seed", type=int, default=0, help="number of the first")
    parser.add_argument("--evals", type=int, default=100, help="evaluations of 2,048 tokens")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    args = parser.parse_args(argv)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    params = LabParams(**json.loads(args.lab))
    found: dict[str, Any] = {}
    for name, values in json.loads(args.variants).items():
        found |= compare({name: values}, params, seeds, args.evals)
        if args.out:
            write_json(args.out, {"lab": params.model_dump(), "evals": args.evals, "variants": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
