"""Set up a search: read its inputs, open the problem on the real model, load the method and the search's state."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.files import read_json, require_file
from ramp.methods.kinds import Allocator, MethodError, reason_not_to_run
from ramp.methods.loader import load_method, parse_params, split_reference
from ramp.models.architecture import LinearSpec, list_linears
from ramp.models.device import pick_device, pick_dtype
from ramp.models.folder import load_tokenizer, read_config
from ramp.problem.features import read_stats, static_features, weight_moments
from ramp.problem.problem import AllocationError, Problem
from ramp.quantizers.sizes import budget_bytes
from ramp.quantizers.widths import Width
from ramp.scoring.score import Score
from ramp.search.journal import State, describe
from ramp.search.layout import fill, method_file

if TYPE_CHECKING:
    from pydantic import BaseModel


def read_proxy(path: Path, linears: Sequence[LinearSpec], widths: Sequence[Width]) -> tuple[np.ndarray, int]:
    """Additive sensitivities [n, w] (nats per token) and the forward tokens that they cost."""
    record = read_json(require_file(path, "sensitivities"))
    rows = record["linears"]
    try:
        proxy = np.array([[rows[linear.name][str(width)] for width in widths] for linear in linears], dtype=np.float64)
    except KeyError as error:
        raise AllocationError(f"{path} lacks {error}: run ramp.sensitivity.fisher on this very bank") from None
    return proxy, int(record["tokens"])


def check_proxy(path: Path, method: Allocator) -> None:
    """Raise ``MethodError`` unless the sensitivities in ``path`` are of the kind that the method names."""
    kind = read_json(path)["proxy"]
    if kind != method.proxy:
        raise MethodError(f"method '{method.name}' wants sensitivities of kind '{method.proxy}', {path} holds '{kind}'")


def build_problem(args: Any, state: State, params: BaseModel | None = None) -> Problem:
    """The problem on a real model: bank, folded float model, scorers, features, proxy.

    ``params`` may ask for text in parts by fields named ``pool_windows``, ``selection_windows`` and
    ``part_windows``, and for a coarser score on search text by ``top_k``, as ``ramp.agent.params`` has them.
    """
    from ramp.bank.bank import Bank
    from ramp.calibration.folding import folded_float_model, load_fold
    from ramp.models.text import token_windows
    from ramp.scoring.prefix_cache import PrefixScorer, block_names
    from ramp.scoring.topk import TopKScorer

    config = read_config(args.model_dir)
    linears = list_linears(config)
    bank = Bank(args.bank)
    fold = load_fold(args.fold, config) if args.fold else {}
    device = pick_device(args.device)
    model = folded_float_model(args.model_dir, fold, pick_dtype(args.dtype, device), device)
    tokenizer = load_tokenizer(args.model_dir)
    if [linear.name for linear in bank.linears] != [linear.name for linear in linears]:
        raise AllocationError(f"{args.bank} is the bank of another model than {args.model_dir}: pass its own")

    def scorers(path: Path, count: int, size: int, top_k: int = 0) -> list[PrefixScorer]:
        """Scorers of ``count`` windows of a text, ``size`` at a time; the model must still be the float one."""
        if not count:
            return []
        windows = token_windows(tokenizer, path, length=args.search_length, count=count)
        limit = None if size == count else 0  # many parts take turns: prefixes of each would not be worth their memory
        make = functools.partial(TopKScorer, top_k=top_k) if top_k else PrefixScorer
        return [make(model, windows[first : first + size], limit_bytes=limit) for first in range(0, count, size)]

    part, top_k = getattr(params, "part_windows", 1), getattr(params, "top_k", 0)
    whole = scorers(args.search_text, args.search_windows, args.search_windows, top_k)
    final = args.selection_windows or args.search_windows
    chosen = scorers(args.selection_text, final, final)
    pool = scorers(args.search_text, getattr(params, "pool_windows", 0), part, top_k)
    raced = scorers(args.selection_text, getattr(params, "selection_windows", 0), part)

    def scored(scorer: PrefixScorer) -> Callable[[np.ndarray], Score]:
        def score(choice: np.ndarray) -> Score:
            bank.assemble(model, choice)  # in place; writes only what changed since the last one
            return scorer.score(model, block_names(linears, choice))

        return score

    proxy, proxy_cost = read_proxy(args.sensitivity, linears, bank.widths) if args.sensitivity else (None, 0)
    stats = read_stats(args.calibration, fold)
    problem = Problem(
        model=Path(args.model_dir).name,
        linears=linears,
        widths=bank.widths,
        bytes=bank.bytes(),
        budget_bytes=budget_bytes(linears, args.budget, bank.group_size),
        budget_bits=args.budget,
        features=static_features(linears, stats, weight_moments(args.model_dir, linears, fold)),
        proxy=proxy,
        # run_search reads the counters in this order
        evaluate=state.counted("search", scored(whole[0]), limit=args.evals),
        select=state.counted("selection", scored(chosen[0])),
        proxy_tokens=proxy_cost,
        nll_float=whole[0].nll_float,
        bytes_at=lambda bits: budget_bytes(linears, bits, bank.group_size),
        search_parts=[state.counted(f"search part {k}", scored(scorer)) for k, scorer in enumerate(pool)],
        selection_parts=[state.counted(f"selection part {k}", scored(scorer)) for k, scorer in enumerate(raced)],
        part_cost=part / args.search_windows,
    )
    problem.check_budget()
    return problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that name a problem, a method and what it may spend: those of ``build_problem`` and ``prepare``."""
    parser.add_argument("--model", default=None, help="model in --results; paths that are not given are found there")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder of a study")
    parser.add_argument("--model-dir", type=Path, default=None, help="Hugging Face checkpoint folder")
    parser.add_argument("--bank", type=Path, default=None, help="bank folder (ramp.bank.bank)")
    parser.add_argument("--fold", type=Path, default=None, help="fold file that the bank was made with")
    parser.add_argument(
        "--calibration", type=Path, default=None, help="activation statistics (ramp.calibration.stream)"
    )
    parser.add_argument(
        "--sensitivity", type=Path, default=None, help="additive sensitivities (ramp.sensitivity.fisher)"
    )
    parser.add_argument("--search-text", type=Path, default=None, help="text that candidates are scored on")
    parser.add_argument("--selection-text", type=Path, default=None, help="text that the final one is chosen on")
    parser.add_argument("--search-windows", type=int, default=16, help="windows of search text, spread over it")
    parser.add_argument("--search-length", type=int, default=128, help="tokens per window")
    parser.add_argument(
        "--selection-windows", type=int, default=0, help="windows that finalists meet on; 0: as many as for the search"
    )
    parser.add_argument("--method", default="ramp", help="allocator that a file in baselines/ registers")
    parser.add_argument(
        "--method-file", type=Path, default=None, help="the same as FILE, or FILE:NAME for a variant, from anywhere"
    )
    parser.add_argument("--params", default="{}", help="the method's parameters as JSON")
    parser.add_argument("--budget", type=float, required=True, help="bits per weight that the budget stands for")
    parser.add_argument("--evals", type=int, default=100, help="evaluations on search text that the method may spend")
    parser.add_argument("--seed", type=int, default=0, help="of every random draw")
    parser.add_argument("--state-dir", type=Path, default=None, help="folder for checkpoints, kept across kills")


def prepare(args: argparse.Namespace, **more: Any) -> tuple[Allocator, BaseModel, State]:
    """The method, its parameters and the search's state; ``more`` settings make it a search of its own.

    Paths that were not given are filled in from ``--results`` and ``--model`` (``ramp.search.layout``).
    """
    source = method_file(args)
    method = load_method(source)
    if not isinstance(method, Allocator):
        raise MethodError(f"{source} is a uniform method: quantize with it at --bits, nothing to search")
    if reason := reason_not_to_run(method):
        raise MethodError(f"method '{method.name}' does not run here: {reason}")
    try:
        values = json.loads(args.params)
    except json.JSONDecodeError as error:
        raise MethodError(f"--params is not valid JSON ({error}): pass an object such as '{{}}'") from None
    params = parse_params(method, values)
    fill(args, method)
    inputs = {
        "model": args.model_dir,
        "bank": args.bank,
        "fold": args.fold,
        "calibration": args.calibration,
        "sensitivity": args.sensitivity,
        "search_text": args.search_text,
        "selection_text": args.selection_text,
    }
    inputs = {name: require_file(path, name) for name, path in inputs.items() if path}
    if args.sensitivity:
        check_proxy(args.sensitivity, method)
    kept = (
        "search_windows",
        "search_length",
        "selection_windows",
        "budget",
        "evals",
        "seed",
        "threads",
        "device",
        "dtype",
    )
    settings = {name: getattr(args, name) for name in kept} | {"params": params.model_dump(), "method": method.name}
    return method, params, State.open(args.state_dir, describe(split_reference(source)[0], inputs, settings | more))
