"""The league's stage: one search, read at checkpoints, its incumbents scored on held-out text -> one JSON file.

    python -m ramp.league --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --sensitivity R/sensitivity/M/awq-gptq.json \\
        --search-text R/texts/search.jsonl --selection-text R/texts/selection.jsonl \\
        --heldout-text R/texts/heldout.jsonl --method-file baselines/ramp.py --budget 3.65 \\
        --evals 1000 --checkpoints 100 300 1000 --seed 0 --state-dir R/.state --out R/league/M/ramp/3.65/1000/0.json

The search is that of ``ramp.search.run``; every evaluation is written down (``ramp.league.trace``), and the
incumbent at each checkpoint is chosen by one rule for all methods. Held-out text is opened when the search is over;
it scores incumbents on the bank's very weights (stage ``bank``) and chooses nothing.

The file: ``model, bank`` (``digest_of``), ``grid, group_size, fold, quantizer, budget_bits, budget_bytes, allocator,
method, title, seed, params, run_evals, spent, proxy_tokens, wall_s``; ``start`` (null, or ``choice, kl_search,
kl_held``); ``rows``, one per
checkpoint: ``evals`` (allowed), ``spent``, ``tokens`` (everything up to here, with the selection that names the
incumbent), ``choice`` (a sign per linear, or null), ``kl_search, kl_selection, kl_held, bytes_linear, wall_s, note``
and ``windows``; ``curve``: ``evals, tokens, is_start, kl_search, kl_held``; ``heldout`` (windows, length, sha256);
``accepted`` (``ramp.league.acceptance``); ``dtype, commit, versions, hardware``. A method that ends by itself before
the first checkpoint has one row, at what it spent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.files import read_json, require_file, sha256_file, write_json
from ramp.methods.kinds import NAME, Allocator
from ramp.problem.cost import proxy_tokens
from ramp.search.journal import State
from ramp.search.setup import add_arguments, build_problem, prepare

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ramp.league.heldout import Judge
from ramp.league.played import LeagueError, Played, check_model, judged, play, read_curve, read_rows, seconds

log = logging.getLogger("ramp.league.played")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = cli.parser("One run of the league: a search, read at checkpoints, scored on held-out text.")
    add_arguments(parser)
    parser.add_argument("--checkpoints", type=int, nargs="+", required=True, help="evaluations at which it is read")
    parser.add_argument("--heldout-text", type=Path, required=True, help="text that incumbents are scored on")
    parser.add_argument("--heldout-windows", type=int, default=32, help="windows, spread over it")
    parser.add_argument("--heldout-length", type=int, default=256, help="tokens per window")
    parser.add_argument("--curve-points", type=int, default=20, help="points of the anytime curve")
    parser.add_argument("--name", default="", help="of the allocator, where it is a variant; the method's own if empty")
    parser.add_argument("--title", default="", help="what tables call it; the paper's own name if empty")
    parser.add_argument(
        "--accepted", type=Path, default=None, help="record of ramp.league.acceptance, for trained models"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    if args.checkpoints != sorted(set(args.checkpoints)) or args.checkpoints[-1] != args.evals:
        raise LeagueError(f"--checkpoints {args.checkpoints} should rise and end at --evals, {args.evals}")
    if args.name and not NAME.fullmatch(args.name):
        raise LeagueError(f"--name '{args.name}': use lower-case letters, digits and underscores")
    accepted = check_model(args.accepted)
    method, params, state = prepare(args, league=sha256_file(__file__))
    played = play(method, params, build_problem(args, state, params), state, seed=args.seed, evals=args.evals)
    wall = seconds(state, played.trace)
    rows, curve = read_rows(played, args.checkpoints, wall), read_curve(played, args.curve_points)
    record = about(args, method, params, played) | {"accepted": accepted, "wall_s": wall[-1] if wall else 0.0}
    record |= judged(played, rows, curve, held_out(args, state))
    write_json(args.out, record)
    texts = ("kl_search", "kl_selection", "kl_held")
    for row in rows:
        log.info(
            "%s on %s at %g bits, %d evaluations: KL search %s, selection %s, held-out %s %s",
            record["allocator"], record["model"], args.budget, row["spent"],
            *("none" if row[key] is None else f"{row[key]:.5f}" for key in texts),
            row["note"],
        )  # fmt: skip
    state.forget()
    return 0


def held_out(args: Any, state: State) -> Judge:
    """The judge of a run, with a model of its own: the search never had the held-out text."""
    from ramp.league.heldout import Judge
    from ramp.models.folder import load_tokenizer
    from ramp.models.text import token_windows

    windows = token_windows(
        load_tokenizer(args.model_dir), args.heldout_text, length=args.heldout_length, count=args.heldout_windows
    )
    asked = f"{args.heldout_windows}x{args.heldout_length}-{sha256_file(args.heldout_text)[:12]}"
    journal = state.folder / f"heldout-{asked}.jsonl"
    return Judge(args.model_dir, args.bank, args.fold, windows, journal, device=args.device, dtype=args.dtype)


def about(args: Any, method: Allocator, params: BaseModel, played: Played) -> dict[str, Any]:
    """What names a run, and what it was made with."""
    from ramp.core.provenance import commit, hardware, versions
    from ramp.models.device import pick_device, pick_dtype

    index, device = read_json(require_file(args.bank / "bank.json", "bank")), pick_device(args.device)
    return {
        **{key: index[key] for key in ("group_size", "fold", "quantizer", "widths")},
        "model": played.problem.model,
        "bank": digest_of(args),
        "grid": "affine",
        "budget_bits": args.budget,
        "budget_bytes": played.problem.budget_bytes,
        "allocator": args.name or method.name,
        "method": method.name,
        "title": args.title,
        "seed": args.seed,
        "params": params.model_dump(mode="json"),
        "run_evals": args.evals,
        "spent": played.trace.spent,
        "proxy_tokens": proxy_tokens(played.problem),
        "search": {
            "windows": args.search_windows,
            "length": args.search_length,
            "selection_windows": args.selection_windows or args.search_windows,
        },
        "heldout": {
            "windows": args.heldout_windows,
            "length": args.heldout_length,
            "sha256": sha256_file(args.heldout_text),
        },
        "dtype": str(pick_dtype(args.dtype, device)).removeprefix("torch."),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(str(device)),
    }


def digest_of(args: Any) -> str:
    """What a run may be compared on: 12 hexadecimal digits of the bank's weights and of the held-out windows.

    Another processor adds up in another order and rounds some codes the other way, so the same commands elsewhere make
    another bank, with a KL that is some tenths of a per cent off.
    """
    from ramp.bank.bank import WEIGHTS

    held = f"{sha256_file(args.heldout_text)} {args.heldout_windows}x{args.heldout_length}"
    return hashlib.sha256(f"{sha256_file(args.bank / WEIGHTS)} {held}".encode()).hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
