"""Score every allocation of the last few units of a small model; an interrupted enumeration goes on."""

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

from ramp.core.atomic_files import DamagedFile, set_aside, sha256_file
from ramp.core.progress import Progress
from ramp.core.source_closure import closure
from ramp.core.tensors import load_tensors, save_arrays
from ramp.optimum.units import Unit, averaged
from ramp.problem.banked_model import BankedModel
from ramp.search.journal import ROOT

if TYPE_CHECKING:
    from ramp.optimum.half_blocks import HalfBlocks

log = logging.getLogger("ramp.optimum.enumerate")

SAVE_EVERY_S = 20.0
"""Seconds of work that a kill may lose."""


def enumerate_all(chain: HalfBlocks, n: int, widths: int, kept: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (KL, NLL) of every allocation, each float64 [w] * n; ``kept`` is a file that outlives a kill."""
    scores = np.full((2, *[widths] * n), np.nan)
    if kept.is_file():
        try:
            known = load_tensors(kept, "scores so far", framework="np")["scores"]
            scores = known if known.shape == scores.shape else scores
        except DamagedFile as error:
            set_aside(kept, error)
        log.info("going on with %d of %d allocations", int(np.isfinite(scores[0]).sum()), scores[0].size)
    done, best = int((~np.isnan(scores[0])).sum()), float(np.nanmin(scores[0], initial=np.inf))
    saved = time.monotonic()
    progress = Progress("allocations", scores[0].size)

    def keep(choice: tuple[int, ...], kl: float, nll: float) -> None:
        nonlocal done, best, saved
        scores[(0, *choice)] = kl if np.isfinite(kl) else np.inf
        scores[(1, *choice)] = nll if np.isfinite(nll) else np.inf
        done, best = done + 1, min(best, scores[(0, *choice)])
        progress.show({"evals": done, "best": best})
        if time.monotonic() - saved > SAVE_EVERY_S:
            save()
            saved = time.monotonic()

    def save() -> None:
        save_arrays(kept, {"scores": scores})

    def skip(prefix: tuple[int, ...]) -> bool:
        return not np.isnan(scores[(0, *prefix)]).any()

    chain.each(keep, skip)
    progress.close()
    return scores[0], scores[1]


def additivity(chain: HalfBlocks, kl: np.ndarray, widths: Sequence[int]) -> list[dict[str, Any]]:
    """Return per width the KLs of single units, all others float, summed, and the KL with all units at that width."""
    n = kl.ndim
    rows = []
    for index, bits in enumerate(widths):
        singles = [chain.score([index if unit == other else None for other in range(n)])[0] for unit in range(n)]
        together, joint = float(np.sum(singles)), float(kl[(index,) * n])
        rows.append({"bits": int(bits), "kl_sum": together, "kl_joint": joint, "ratio": joint / together})
    return rows


def state_file(folder: Path, inputs: Sequence[Path], settings: dict[str, Any]) -> Path:
    """Return the file of an enumeration's scores while it runs: another source, input or setting, another file."""
    files = [part for path in inputs for part in (sorted(path.iterdir()) if path.is_dir() else [path])]
    identity = {
        "sources": {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/optimum/__main__.py")},
        "inputs": [sha256_file(file) for file in files if file.is_file()],
        "settings": settings,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder / f"optimum-{digest[:32]}.safetensors"


def describe(banked: BankedModel, calibration: Path, units: Sequence[Unit], widths: Sequence[int]) -> dict[str, Any]:
    """Return the description of the units that allocators are given, from bank, statistics and checkpoint."""
    bank = banked.bank
    sizes = bank.bytes()[:, [bank.widths.index(bits) for bits in widths]]
    return {
        "model": banked.name,
        "widths": list(widths),
        "linears": [asdict(unit.spec) for unit in units],
        "members": [[asdict(member) for member in unit.members] for unit in units],
        "bytes": [sizes[[member.index for member in unit.members]].sum(axis=0).tolist() for unit in units],
        "features": averaged(units, banked.features(calibration)).astype(float).tolist(),
        **{key: getattr(bank, key) for key in ("group_size", "fold", "quantizer")},
    }


def write_scores(path: Path, kl: np.ndarray, nll: np.ndarray) -> None:
    """Write ``kl`` and ``nll`` as safetensors."""
    save_arrays(path, {"kl": kl, "nll": nll})
