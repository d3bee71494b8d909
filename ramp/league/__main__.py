"""The league's stage: one search, read at checkpoints, its incumbents scored on held-out text -> one JSON file.

    python -m ramp.league --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --sensitivity R/sensitivity/M/awq-gptq.json \\
        --search-text R/texts/search.jsonl --selection-text R/texts/selection.jsonl \\
        --heldout-text R/texts/heldout.jsonl --method-file baselines/ramp.py --budget 3.65 \\
        --evals 1000 --checkpoints 100 300 1000 --seed 0 --state-dir R/.state --out R/league/M/ramp/3.65/1000/0.json

The search is that of ``ramp.search.run``, which writes every evaluation down; the incumbent at each checkpoint is
chosen by one rule for all methods (``ramp.league.checkpoints``). Held-out text is opened when the search is over: it
scores incumbents with the weights of the bank and chooses nothing.

The file: ``model, bank`` (``comparison_digest``), ``draw`` (of the bank's calibration text), ``grid, group_size, fold,
quantizer, widths, budget_bits, budget_bytes, allocator, method, title, seed, params, run_evals, spent, proxy_tokens,
wall_s``; ``search`` (windows, length, selection_windows); ``start`` (null, or ``choice, kl_search, kl_held``);
``rows``, one per checkpoint: ``evals`` (allowed), ``spent``, ``tokens`` (everything up to here, with the selection that
names the incumbent), ``choice`` (a sign per linear, or null), ``kl_search, kl_selection, kl_held, bytes_linear, wall_s,
note`` and ``windows``; ``curve``: ``evals, tokens, is_start, kl_search, kl_held``; ``heldout`` (windows, length,
sha256); ``accepted`` (``ramp.league.acceptance``); ``dtype, commit, versions, hardware``. A method that ends by itself
before the first checkpoint has one row, at what it spent.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import sha256_file, write_json
from ramp.core.output_path import OutputFile
from ramp.search.options import add_arguments

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.league.acceptance_record import LeagueError, read_acceptance
    from ramp.league.checkpoints import add_heldout, read_curve, read_rows, seconds
    from ramp.league.heldout_scorer import HeldoutScorer
    from ramp.methods.kinds import NAME
    from ramp.models.device import dtype_name, pick_device, pick_dtype
    from ramp.problem.banked_model import BankedModel
    from ramp.search.run import SearchRun
    from ramp.search.setup import Search, prepare

log = logging.getLogger("ramp.league")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("One run of the league: a search, read at checkpoints, scored on held-out text.")
    add_arguments(parser)
    parser.add_argument(
        "--checkpoints", type=cli.count, nargs="+", required=True, help="evaluations at which it is read"
    )
    parser.add_argument("--heldout-text", type=Path, required=True, help="text that incumbents are scored on")
    parser.add_argument("--heldout-windows", type=int, default=32, help="windows, spread over it")
    parser.add_argument("--heldout-length", type=int, default=256, help="tokens per window")
    parser.add_argument("--draw", type=int, default=0, help="draw of calibration text that the bank was made of")
    parser.add_argument("--curve-points", type=int, default=20, help="points of the anytime curve")
    parser.add_argument("--name", default="", help="name of the allocator, for a variant; the method's own if empty")
    parser.add_argument("--title", default="", help="name in tables; the paper's own name if empty")
    parser.add_argument(
        "--accepted", type=Path, default=None, help="record of ramp.league.acceptance, for trained models"
    )
    parser.add_argument("--out", type=OutputFile, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.checkpoints != sorted(set(args.checkpoints)) or args.checkpoints[-1] != args.evals:
        raise LeagueError(f"--checkpoints {args.checkpoints} should rise and end at --evals, {args.evals}")
    if args.name and not NAME.fullmatch(args.name):
        raise LeagueError(f"--name '{args.name}': use lower-case letters, digits and underscores")
    accepted = None if args.accepted is None else read_acceptance(args.accepted)
    search, _ = prepare(args)
    state, banked = search.open_state(league=sha256_file(__file__)), search.open_model()
    found = search.run(banked, state)
    wall = seconds(found)
    rows, curve = read_rows(found, args.checkpoints, wall), read_curve(found, args.curve_points)
    record = describe(args, search, banked, found) | {"accepted": accepted, "wall_s": wall[-1] if wall else 0.0}
    device = pick_device(args.device)
    text, length, count = args.heldout_text, args.heldout_length, args.heldout_windows
    scorer = HeldoutScorer(
        banked,
        banked.windows(text, length=length, count=count),
        state.folder / f"heldout-{count}x{length}-{sha256_file(text)[:12]}.jsonl",
        device=device,
        dtype=pick_dtype(args.dtype, banked.model_dir),
    )
    record |= add_heldout(found, rows, curve, scorer)
    write_json(args.out, record, sealed=True)
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


def describe(args: argparse.Namespace, search: Search, banked: BankedModel, found: SearchRun) -> dict[str, Any]:
    """Return the fields that name a run and say what it was made with."""
    from ramp.core.provenance import commit, hardware, versions

    device = pick_device(args.device)
    return {
        **{key: getattr(banked.bank, key) for key in ("group_size", "fold", "quantizer", "widths")},
        "model": banked.name,
        "bank": comparison_digest(search.inputs.bank, args),
        "draw": args.draw,
        "grid": "affine",
        "budget_bits": args.budget,
        "budget_bytes": found.problem.budget_bytes,
        "allocator": args.name or search.method.name,
        "method": search.method.name,
        "title": args.title,
        "seed": args.seed,
        "params": search.params.model_dump(mode="json"),
        "run_evals": args.evals,
        "spent": found.spent,
        "proxy_tokens": found.proxy_tokens,
        "search": {
            "windows": args.search_windows,
            "length": args.search_length,
            "selection_windows": search.settings.final_windows,
        },
        "heldout": {
            "windows": args.heldout_windows,
            "length": args.heldout_length,
            "sha256": sha256_file(args.heldout_text),
        },
        "dtype": dtype_name(pick_dtype(args.dtype, banked.model_dir)),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(str(device)),
    }


def comparison_digest(bank: Path, args: argparse.Namespace) -> str:
    """Return 12 hexadecimal digits of the bank's weights and the held-out windows: runs compare where these are equal.

    Another processor adds up in another order and rounds some codes the other way, so the same commands elsewhere make
    another bank, with a KL that is some tenths of a per cent off.
    """
    from ramp.bank.bank import WEIGHTS

    held = f"{sha256_file(args.heldout_text)} {args.heldout_windows}x{args.heldout_length}"
    return hashlib.sha256(f"{sha256_file(bank / WEIGHTS)} {held}".encode()).hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
