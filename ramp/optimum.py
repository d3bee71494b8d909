"""The exact optimum's stage: every allocation of a small problem, scored on search text -> an index and its scores.

    python -m ramp.optimum --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --text R/texts/search.jsonl --windows 8 --length 64 \\
        --units halves-8 --widths 3 4 5 6 --state-dir R/.state --out R/optimum/M/halves-8.json

Eight units (``ramp.units``) of four widths are 65,536 allocations; ``ramp.half_blocks`` scores them in float32 at the
cost of a half-block and the head each. Killed, the command goes on where it stopped. Beside the index lies
``{same name}.safetensors`` with ``kl`` and ``nll``, float64 [w] * n, nats per token.

The index: ``model, units, widths, linears`` (how allocators see the units), ``members`` (of each, as in bank.json),
``bytes`` [n][w], ``features`` [n][9], ``group_size, fold, quantizer, windows, length, scored_tokens, nll_float``,
``additivity`` (per width: ``bits, kl_sum, kl_joint, ratio``), ``wall_s, command, commit, versions, hardware``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp import cli
from ramp.files import atomic_path, remove, require_file, sha256_file, write_json
from ramp.resume import ROOT
from ramp.sources import closure
from ramp.units import OptimumError, Unit, averaged, make_units

if TYPE_CHECKING:
    from ramp.half_blocks import HalfBlocks

log = logging.getLogger("ramp.optimum")

SAVE_EVERY_S = 20.0
"""Seconds of work that a kill may lose."""

LINES = 20
"""Log lines over a whole enumeration."""


def enumerate_all(chain: HalfBlocks, n: int, widths: int, kept: Path) -> tuple[np.ndarray, np.ndarray]:
    """(KL, NLL), each float64 [w] * n, of every allocation; ``kept`` is a file that outlives a kill."""
    scores = np.full((2, *[widths] * n), np.nan)
    if kept.is_file():
        scores = np.load(kept, allow_pickle=False)
        log.info("going on with %d of %d allocations", int(np.isfinite(scores[0]).sum()), scores[0].size)
    total, saved, began = scores[0].size, time.monotonic(), time.monotonic()
    done = earlier = int((~np.isnan(scores[0])).sum())

    def keep(choice: tuple[int, ...], kl: float, nll: float) -> None:
        nonlocal done, saved
        scores[(0, *choice)] = kl if np.isfinite(kl) else np.inf
        scores[(1, *choice)] = nll if np.isfinite(nll) else np.inf
        done += 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            save()
            saved = time.monotonic()
        if done % max(1, total // LINES) == 0:
            rate = (done - earlier) / (time.monotonic() - began)
            log.info("%d of %d allocations, %.0f a second, %.0f s left", done, total, rate, (total - done) / rate)

    def save() -> None:
        with atomic_path(kept) as partial, open(partial, "wb") as stream:
            np.save(stream, scores)

    def skip(prefix: tuple[int, ...]) -> bool:
        return not np.isnan(scores[(0, *prefix)]).any()

    chain.each(keep, skip)
    return scores[0], scores[1]


def additivity(chain: HalfBlocks, kl: np.ndarray, widths: Sequence[int]) -> list[dict[str, Any]]:
    """Per width: the KLs of single units, all others float, summed, against the KL with all units at that width."""
    n = kl.ndim
    rows = []
    for index, bits in enumerate(widths):
        singles = [chain.score([index if unit == other else None for other in range(n)])[0] for unit in range(n)]
        together, joint = float(np.sum(singles)), float(kl[(index,) * n])
        rows.append({"bits": int(bits), "kl_sum": together, "kl_joint": joint, "ratio": joint / together})
    return rows


def state_file(folder: Path, inputs: Sequence[Path], settings: dict[str, Any]) -> Path:
    """Where an enumeration's scores are kept while it runs: another source, input or setting, another file."""
    files = [part for path in inputs for part in (sorted(path.iterdir()) if path.is_dir() else [path])]
    identity = {
        "sources": {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/optimum.py")},
        "inputs": [sha256_file(file) for file in files if file.is_file()],
        "settings": settings,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"optimum-{digest[:32]}.npy"


def make_chain(args: Any, units: Sequence[Unit]) -> HalfBlocks:
    """The float model with the bank's entries of the units at the widths asked for."""
    import torch

    from ramp.bank import Bank
    from ramp.folding import folded_float_model, load_fold
    from ramp.half_blocks import HalfBlocks
    from ramp.models import load_tokenizer, read_config
    from ramp.text import token_windows

    bank = Bank(args.bank)
    odd = sorted(set(args.widths) - set(bank.widths))
    if odd:
        raise OptimumError(f"{args.bank} has no {odd[0]} bits (widths: {list(bank.widths)}): build it with them")
    bank.widths = tuple(sorted(args.widths))
    model = folded_float_model(args.model_dir, load_fold(args.fold, read_config(args.model_dir)), torch.float32)
    windows = token_windows(load_tokenizer(args.model_dir), args.text, length=args.length, count=args.windows)
    return HalfBlocks(model, bank, units, windows)


def describe(args: Any, units: Sequence[Unit]) -> dict[str, Any]:
    """What allocators are told of the units, from bank, statistics and checkpoint."""
    from ramp.bank import Bank
    from ramp.embedding import read_stats, static_features, weight_moments
    from ramp.folding import load_fold
    from ramp.models import list_linears, read_config

    config = read_config(args.model_dir)
    bank, linears, fold = Bank(args.bank), list_linears(config), load_fold(args.fold, config)
    columns = [bank.widths.index(bits) for bits in sorted(args.widths)]
    sizes = bank.bytes()[:, columns]
    features = static_features(
        linears, read_stats(args.calibration, fold), weight_moments(args.model_dir, linears, fold)
    )
    return {
        "model": args.model_dir.name,
        "units": args.units,
        "widths": sorted(args.widths),
        "linears": [asdict(unit.spec) for unit in units],
        "members": [[asdict(member) for member in unit.members] for unit in units],
        "bytes": [[int(sum(sizes[m.index, a] for m in unit.members)) for a in range(len(columns))] for unit in units],
        "features": averaged(units, features).astype(float).tolist(),
        **{key: getattr(bank, key) for key in ("group_size", "fold", "quantizer")},
        "windows": args.windows,
        "length": args.length,
        "scored_tokens": args.windows * (args.length - 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    from ramp.models import list_linears, read_config
    from ramp.provenance import commit, hardware, versions

    parser = cli.parser("Score every allocation of a problem that is small enough; resumes after a kill.")
    parser.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--bank", type=Path, required=True, help="bank folder (ramp.bank)")
    parser.add_argument("--fold", type=Path, required=True, help="fold file that the bank was made with")
    parser.add_argument("--calibration", type=Path, required=True, help="activation statistics (ramp.calibration)")
    parser.add_argument("--text", type=Path, required=True, help="search text")
    parser.add_argument("--windows", type=int, default=8, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=64, help="tokens per window")
    parser.add_argument("--units", default="halves-8", help="halves-N or linears-N: the last N of the model")
    parser.add_argument("--widths", type=int, nargs="+", default=[3, 4, 5, 6], help="bits of a unit; at most four")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder for scores so far, kept across kills")
    parser.add_argument("--out", type=Path, required=True, help="index to write; the scores lie beside it")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    if not 2 <= len(set(args.widths)) == len(args.widths) <= 4:
        raise OptimumError(f"--widths {args.widths}: give two to four distinct widths")
    began = time.monotonic()
    units = make_units(list_linears(read_config(args.model_dir)), args.units)
    inputs = [args.model_dir, args.bank, *(require_file(f, "input") for f in (args.fold, args.calibration, args.text))]
    settings = {key: getattr(args, key) for key in ("units", "windows", "length", "threads")}
    kept = state_file(args.state_dir, inputs, settings | {"widths": sorted(args.widths)})
    chain = make_chain(args, units)
    kl, nll = enumerate_all(chain, len(units), len(args.widths), kept)
    record = describe(args, units) | {
        "additivity": additivity(chain, kl, sorted(args.widths)),
        "nll_float": chain.nll_float,
        "wall_s": round(time.monotonic() - began, 3),
        "command": command(args),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_scores(args.out.with_suffix(".safetensors"), kl, nll)
    write_json(args.out, record)
    remove(kept)
    log.info("%d allocations of %s of %s: least KL %.5f", kl.size, args.units, record["model"], float(kl.min()))
    return 0


def command(args: Any) -> str:
    """How to make an enumeration again, with R for the results folder: records hold no path of a machine."""
    asked = f"--windows {args.windows} --length {args.length} --widths {' '.join(map(str, sorted(args.widths)))}"
    model, state = args.model_dir.name, "--state-dir R/.state"
    made = f"--bank R/bank/{model}/{args.bank.name} --fold R/folds/{model}/{args.fold.name}"
    read = f"--calibration R/calibration/{model}.safetensors --text R/texts/{args.text.name}"
    out = f"--out R/optimum/{model}/{args.units}.json"
    where = f"--model-dir R/models/{model} {made} {read}"
    return f"python -m ramp.optimum {where} --units {args.units} {asked} {state} {out}"


def write_scores(path: Path, kl: np.ndarray, nll: np.ndarray) -> None:
    """Write ``kl`` and ``nll`` as safetensors."""
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({"kl": np.ascontiguousarray(kl), "nll": np.ascontiguousarray(nll)}, str(partial))


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
