"""The league's stage: one search, read at checkpoints, its incumbents scored on held-out text -> one JSON file.

    python -m ramp.league --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --sensitivity R/sensitivity/M/awq-gptq.json \\
        --search-text R/texts/search.jsonl --selection-text R/texts/selection.jsonl \\
        --heldout-text R/texts/heldout.jsonl --method-file baselines/ramp.py --budget 3.65 \\
        --evals 1000 --checkpoints 100 300 1000 --seed 0 --state-dir R/.state --out R/league/M/ramp/3.65/1000/0.json

The search is that of ``ramp.search``; every evaluation is written down (``ramp.league_trace``), and the incumbent at
each checkpoint is chosen by one rule for all methods. Held-out text is opened when the search is over; it scores
incumbents on the bank's very weights (stage ``bank``) and chooses nothing.

The file: ``model, bank`` (``digest_of``), ``grid, group_size, fold, quantizer, budget_bits, budget_bytes, allocator,
method, title, seed, params, run_evals, spent, proxy_tokens, wall_s``; ``start`` (null, or ``choice, kl_search,
kl_held``); ``rows``, one per
checkpoint: ``evals`` (allowed), ``spent``, ``tokens`` (everything up to here, with the selection that names the
incumbent), ``choice`` (a sign per linear, or null), ``kl_search, kl_selection, kl_held, bytes_linear, wall_s, note``
and ``windows``; ``curve``: ``evals, tokens, is_start, kl_search, kl_held``; ``heldout`` (windows, length, sha256);
``accepted`` (``ramp.acceptance``); ``dtype, commit, versions, hardware``. A method that ends by itself before the first
checkpoint has one row, at what it spent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp import cli
from ramp.charges import charged_tokens, proxy_tokens
from ramp.errors import RampError
from ramp.files import read_json, require_file, sha256_file, write_json
from ramp.league_trace import Trace, thinned
from ramp.methods import NAME, Allocator
from ramp.problem import Allocation, Problem, Run, decode, encode
from ramp.progress import Progress
from ramp.resume import State, read_journal
from ramp.search import add_arguments, build_problem, finite, prepare

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ramp.league_judge import Judge

log = logging.getLogger("ramp.league")


class LeagueError(RampError):
    """A league run that cannot be made, or a model that is not worth quantizing."""


@dataclass
class Played:
    """A search that is over: what it evaluated, what it says, and how to score on selection text."""

    trace: Trace
    found: Allocation
    problem: Problem
    state: State

    @property
    def start(self) -> str | None:
        """The warm start."""
        return None if self.found.start_choice is None else encode(self.found.start_choice)

    def kl(self, text: str, choice: str | None) -> float | None:
        """What the run measured of an allocation on ``search`` or ``selection`` text."""
        score = None if choice is None else self.state.known(text, decode(choice))
        return None if score is None else finite(score.kl)


def play(method: Allocator, params: BaseModel, problem: Problem, state: State, *, seed: int, evals: int) -> Played:
    """Run the search with every evaluation written down; a killed one goes on where it stopped."""
    evaluate = state.counters[0]
    trace, progress = Trace(), Progress(method.title, evals)

    def show(row: dict[str, Any]) -> None:
        logged(row)
        progress.show({"evals": evaluate.evals, **{key: finite(value) for key, value in row.items()}})

    def save(kept: dict[str, Any]) -> None:
        state.save({"method": kept, "trace": trace.dump()})

    def load() -> dict[str, Any] | None:
        kept = state.load()
        if kept is None:
            return None
        trace.restore(kept["trace"])
        return kept["method"]

    logged = trace.watch(problem, lambda: charged_tokens(problem, state.counters))
    artifacts = state.folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    run = Run(seed, evals, artifacts, state.folder, show, method.name, save, load)
    found = method.allocate(problem, params, run)
    progress.close()
    return Played(trace, found, problem, state)


def moments(checkpoints: Sequence[int], spent: int) -> list[int]:
    """Where a run is read: its checkpoints, or once at what it spent where it ended before the first of them."""
    return list(checkpoints) if spent >= checkpoints[0] else [spent]


def incumbent(played: Played, upto: int, last: bool) -> tuple[str | None, int, str]:
    """The incumbent after ``upto`` scores: its choice or None, how many were scored for it, and a note.

    ``last``: the run is over, so that what the method hands back stands in where it evaluated nothing feasible.
    """
    candidates = played.trace.finalists(upto, played.problem.budget_bytes, played.start)
    note = ""
    if not candidates:
        if not last:
            return None, 0, "no allocation within the budget so far"
        candidates = [encode(played.found.choice)]
        note = played.found.notes or "nothing within the budget was evaluated: what the method hands back"
    scores = [played.problem.select(decode(choice)).kl for choice in candidates]
    return candidates[int(np.argmin(scores))], len(candidates), note


def read_rows(played: Played, checkpoints: Sequence[int], wall: Sequence[float]) -> list[dict[str, Any]]:
    """One row per checkpoint, without held-out scores; ``wall`` [scores] are seconds up to each."""
    trace, problem = played.trace, played.problem
    rows = []
    for allowed in moments(checkpoints, trace.spent):
        upto = trace.upto(allowed)
        choice, scored, note = incumbent(played, upto, last=upto == len(trace))
        spent_tokens = trace.tokens[upto - 1] if upto else proxy_tokens(problem)
        rows.append(
            {
                "evals": allowed,
                "spent": trace.evals[upto - 1] if upto else 0,
                "tokens": spent_tokens + scored * selection_tokens(played),
                "choice": choice,
                "kl_search": played.kl("search", choice),
                "kl_selection": played.kl("selection", choice),
                "bytes_linear": None if choice is None else problem.bytes_of(decode(choice)),
                "wall_s": wall[upto - 1] if upto else 0.0,
                "note": note,
            }
        )
    return rows


def selection_tokens(played: Played) -> int:
    """Forward tokens of one score on selection text."""
    selection = [score.tokens for (text, _), score in played.state.scores.items() if text == "selection"]
    return selection[0] if selection else 0


def seconds(state: State, trace: Trace) -> list[float]:
    """Seconds up to every evaluation, over all processes: what the journal said when it was made."""
    made: dict[str, float] = {}
    for entry in read_journal(state.folder / "journal.jsonl"):
        if entry["text"].startswith("search"):
            made.setdefault(encode(entry["choice"]), round(float(entry["wall_s"]), 3))
    return [float(each) for each in np.maximum.accumulate([made.get(choice, 0.0) for choice in trace.choices] or [0.0])]


def read_curve(played: Played, points: int) -> list[dict[str, Any]]:
    """The anytime curve without held-out scores: the best feasible allocation on search text, whenever it changed."""
    trace = played.trace
    kept = thinned(trace.changes(played.problem.budget_bytes), len(trace), points)
    return [
        {
            "evals": trace.evals[position],
            "tokens": trace.tokens[position],
            "choice": trace.choices[position],
            "is_start": trace.choices[position] == played.start,
            "kl_search": trace.kl[position],
        }
        for position in kept
    ]


def judged(played: Played, rows: list[dict[str, Any]], curve: list[dict[str, Any]], judge: Judge) -> dict[str, Any]:
    """Start, rows and curve with their held-out scores."""
    for row in rows:
        row["windows"] = [] if row["choice"] is None else judge.windows_of(row["choice"])
        row["kl_held"] = None if row["choice"] is None else judge.kl_of(row["choice"])
    for point in curve:
        point["kl_held"] = judge.kl_of(point.pop("choice"))
    start = None
    if played.start is not None:
        start = {"choice": played.start, "kl_search": played.kl("search", played.start)}
        start["kl_held"] = judge.kl_of(played.start)
    return {"start": start, "rows": rows, "curve": curve}


def check_model(path: Path | None) -> dict[str, Any] | None:
    """The record of ``ramp.acceptance``; ``LeagueError`` where it refused the model."""
    if path is None:
        return None
    record = read_json(require_file(path, "acceptance of the model"))
    if not record["accepted"]:
        raise LeagueError(
            f"{record['model']} is not worth quantizing: uniform {record['bits']}-bit RTN costs it "
            f"{100 * record['increase_own']:.1f} % perplexity on its own text, {100 * record['limit']:g} % are asked "
            "for; train it longer (train_steps) or lower league.accept.increase"
        )
    return record


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
    parser.add_argument("--accepted", type=Path, default=None, help="record of ramp.acceptance, for trained models")
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
    from ramp.league_judge import Judge
    from ramp.models import load_tokenizer
    from ramp.text import token_windows

    windows = token_windows(
        load_tokenizer(args.model_dir), args.heldout_text, length=args.heldout_length, count=args.heldout_windows
    )
    asked = f"{args.heldout_windows}x{args.heldout_length}-{sha256_file(args.heldout_text)[:12]}"
    journal = state.folder / f"heldout-{asked}.jsonl"
    return Judge(args.model_dir, args.bank, args.fold, windows, journal, device=args.device, dtype=args.dtype)


def about(args: Any, method: Allocator, params: BaseModel, played: Played) -> dict[str, Any]:
    """What names a run, and what it was made with."""
    from ramp.models import pick_device, pick_dtype
    from ramp.provenance import commit, hardware, versions

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
    from ramp.bank import WEIGHTS

    held = f"{sha256_file(args.heldout_text)} {args.heldout_windows}x{args.heldout_length}"
    return hashlib.sha256(f"{sha256_file(args.bank / WEIGHTS)} {held}".encode()).hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
