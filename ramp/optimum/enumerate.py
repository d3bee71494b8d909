"""Enumerate every allocation of the last few units of a small model."""

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

from ramp.core.files import atomic_path, sha256_file
from ramp.core.sources import closure
from ramp.optimum.units import OptimumError, Unit, averaged
from ramp.search.journal import ROOT

if TYPE_CHECKING:
    from ramp.optimum.half_blocks import HalfBlocks


log = logging.getLogger("ramp.optimum.enumerate")


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
        "sources": {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/optimum/__main__.py")},
        "inputs": [sha256_file(file) for file in files if file.is_file()],
        "settings": settings,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"optimum-{digest[:32]}.npy"


def make_chain(args: Any, units: Sequence[Unit]) -> HalfBlocks:
    """The float model with the bank's entries of the units at the widths asked for."""
    import torch

    from ramp.bank.bank import Bank
    from ramp.calibration.folding import folded_float_model, load_fold
    from ramp.models.folder import load_tokenizer, read_config
    from ramp.models.text import token_windows
    from ramp.optimum.half_blocks import HalfBlocks

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
    from ramp.bank.bank import Bank
    from ramp.calibration.folding import load_fold
    from ramp.models.architecture import list_linears
    from ramp.models.folder import read_config
    from ramp.problem.features import read_stats, static_features, weight_moments

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


def write_scores(path: Path, kl: np.ndarray, nll: np.ndarray) -> None:
    """Write ``kl`` and ``nll`` as safetensors."""
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({"kl": np.ascontiguousarray(kl), "nll": np.ascontiguousarray(nll)}, str(partial))
