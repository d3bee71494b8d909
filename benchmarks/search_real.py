"""Compare switches of the search on a real model: KL on other text, paired with the knapsack that each started from.

    python -m benchmarks.search_real --model smollm2-135m --results results --budget 3.65 --evals 100 --seeds 1 \\
        --variants '{"default": {}, "pool": {"pool_windows": 64}}' --out F.json

Every search runs as in ``ramp.search.run`` (bank stage, texts by role). Its result is scored on ``--judge-text``, by
default the study's training text, which no stage of a downloaded model reads: switches chosen by held-out text would
make its later figures too good. A model that was trained on that text needs another one. Per
variant it prints the mean difference of KL, found minus start, over windows and seeds, with the standard error over
windows of the seeds' mean (windows are the sample; seeds share them).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core import cli
from ramp.core.atomic_files import require_file, write_json
from ramp.core.output_path import OutputFile
from ramp.methods.loader import parse_params
from ramp.models.device import pick_device, pick_dtype
from ramp.problem.allocation import AllocationRecord
from ramp.problem.banked_model import BankedModel
from ramp.problem.problem import Problem
from ramp.search.journal import SearchState
from ramp.search.results import write_results
from ramp.search.setup import Search, SearchInputs, prepare


def judge(args: argparse.Namespace, banked: BankedModel) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function: allocation to KL on every window of the judging text, nats per token, float64 [windows]."""
    from ramp.scoring.kl_divergence import Scorer

    device = pick_device(args.device)
    model = banked.float_model(pick_dtype(args.dtype, banked.model_dir), device)
    text = require_file(args.judge_text or Path(args.results) / "texts" / "train.jsonl", "text that judges")
    tokens = banked.windows(text, length=args.judge_length, count=args.judge_windows)
    scorers = [Scorer(model, tokens[k : k + 1]) for k in range(len(tokens))]

    def score(choice: np.ndarray) -> np.ndarray:
        banked.bank.assemble(model, choice)
        return np.array([scorer.score(model).kl for scorer in scorers])

    return score


def one(search: Search, values: dict[str, Any], seed: int) -> tuple[Problem, AllocationRecord]:
    """Run one search in a folder of its own; return its problem and its record."""
    method = search.method
    search = replace(search, params=parse_params(method, values), settings=replace(search.settings, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        state, artifacts = SearchState.open(Path(folder) / "state", {}), Path(folder)
        found = search.run(search.open_model(), state, artifacts)
        record = write_results(
            found, method.name, seed=seed, out=artifacts / "a.json", artifacts=artifacts,
            study="switches", group_size=0, fold=method.fold, quantizer=str(method.quantizer),
        )  # fmt: skip
    return found.problem, record


def as_choice(problem: Problem, bits: dict[str, int]) -> np.ndarray:
    """Return linear -> bits as indices [n]."""
    return np.array([problem.widths.index(bits[linear.name]) for linear in problem.linears])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Compare switches of the search on a real model, on text that no search reads.")
    parser.add_argument("--model", required=True, help="model of the results folder")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder of a study")
    parser.add_argument("--method", default="ramp", help="file in baselines/")
    parser.add_argument("--budget", type=float, required=True, help="bits per weight of the budget")
    parser.add_argument("--evals", type=int, default=100, help="evaluations per search")
    parser.add_argument("--seeds", type=int, default=1, help="searches per variant")
    parser.add_argument("--first-seed", type=int, default=0, help="number of the first")
    parser.add_argument("--variants", default='{"default": {}}', help="JSON: name -> parameters of the method")
    parser.add_argument("--search-windows", type=int, default=16, help="windows of one evaluation")
    parser.add_argument("--search-length", type=int, default=128, help="tokens per window")
    parser.add_argument("--selection-windows", type=int, default=0, help="of selection text; 0: as many as for search")
    parser.add_argument("--judge-text", type=Path, default=None, help="text of the scores; default: training text")
    parser.add_argument("--judge-windows", type=int, default=64, help="windows of it")
    parser.add_argument("--judge-length", type=int, default=256, help="tokens per window")
    parser.add_argument("--out", type=OutputFile, required=True, help="JSON file to write, after every search")
    args = parser.parse_args(argv)
    for name in (*(each.name for each in fields(SearchInputs)), "state_dir", "method_file"):
        setattr(args, name, None)
    args.params, args.seed = {}, args.first_seed
    search, _ = prepare(args)
    score = judge(args, search.open_model())
    known: dict[bytes, np.ndarray] = {}

    def judged(choice: np.ndarray) -> np.ndarray:
        key = choice.tobytes()
        if key not in known:
            known[key] = score(choice)
        return known[key]

    rows: list[dict[str, Any]] = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name, values in json.loads(args.variants).items():
            problem, record = one(search, values, seed)
            found = judged(as_choice(problem, record.bits))
            start = judged(as_choice(problem, record.start_bits or record.bits))
            kept = ("kl_search", "kl_start", "kl_selection", "kl_start_selection", "search_tokens", "search_wall_s")
            rows.append(
                {
                    "variant": name,
                    "seed": seed,
                    "judged": found.tolist(),
                    "start": start.tolist(),
                }
                | record.model_dump(include=set(kept))
                | {"bits": record.bits, "notes": record.notes}
            )
            write_json(args.out, {"budget": args.budget, "evals": args.evals, "model": args.model, "rows": rows})
            difference = found - start
            print(
                f"seed {seed} {name:20s} judged {found.mean():.5f} (start {start.mean():.5f}), difference "
                f"{difference.mean():+.5f} +- {difference.std(ddof=1) / len(difference) ** 0.5:.5f}; search "
                f"{record.kl_search or float('nan'):.5f} (start {record.kl_start or float('nan'):.5f}), "
                f"{record.search_wall_s:.0f} s",
                flush=True,
            )
    for name in json.loads(args.variants):
        own = [row for row in rows if row["variant"] == name]
        mean = np.mean([np.array(row["judged"]) - np.array(row["start"]) for row in own], axis=0)
        start = float(np.mean([row["start"] for row in own]))
        error = float(mean.std(ddof=1) / np.sqrt(len(mean)))
        print(
            f"{name:24s} {mean.mean():+.5f} +- {error:.5f} nats ({100 * mean.mean() / start:+.2f} %), {len(own)} seeds"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
