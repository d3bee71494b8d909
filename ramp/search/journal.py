"""Checkpoints of a search, for resuming after kill -9 with the same result.

They lie in ``{state_dir}/{hash}/``, undeclared to Snakemake, which deletes the outputs of an interrupted job. The
hash covers the sources of every project module that the search imports, the method's file, its parameters, the
input files' bytes and the versions of the libraries: another hash starts afresh, so an edit never resumes an old
checkpoint. The folder holds

- ``journal.jsonl``: one line per true evaluation (which text, allocation, score, seconds). A rerun is answered from
  it, so that any method that is deterministic in its seed resumes without code of its own;
- ``learner.pt``: the state that a method saved after its last episode, with the counters and the logged rows of
  that moment;
- ``identity.json``: what was hashed, for people.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core.files import atomic_path, remove, sha256_file, write_json
from ramp.core.sources import closure
from ramp.problem.problem import Counted
from ramp.scoring.score import Score

ROOT = Path(__file__).resolve().parents[2]
VERSIONS_OF = ("torch", "transformers", "numpy", "scipy", "pydantic", "safetensors", "gymnasium", "stable-baselines3")


def describe(method_file: Path, inputs: dict[str, Path], settings: dict[str, Any]) -> dict[str, Any]:
    """What makes a search this very search: sources, inputs, versions and settings."""
    method = method_file.resolve()
    own = str(method.relative_to(ROOT)) if method.is_relative_to(ROOT) else str(method)  # Path / "/x" is "/x"
    sources = {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/search/__main__.py", own)}
    files: dict[str, str] = {}
    for name, path in inputs.items():
        parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        files |= {f"{name}:{part.relative_to(path) if path.is_dir() else ''}": sha256_file(part) for part in parts}
    return {
        "sources": sources,
        "inputs": files,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS_OF},
        "settings": settings,
    }


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal, none where there is no file; a torn one is cut off, so that the next starts clean."""
    entries: list[dict[str, Any]] = []
    if not path.is_file():
        return entries
    good = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except json.JSONDecodeError:
            entry = None
        if entry is None:
            break
        good += len(line)
        entries.append(entry)
    os.truncate(path, good)
    return entries


@dataclass
class State:
    """The folder of one search's checkpoints."""

    folder: Path
    scores: dict[tuple[str, bytes], Score] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    counters: list[Counted] = field(default_factory=list)
    searched: np.ndarray | None = None  # what search text scored last, whole or a part of it
    earlier_wall_s: float = 0.0  # of the processes before this one, up to their last evaluation
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, state_dir: str | Path, identity: dict[str, Any]) -> State:
        """The state of the search that ``identity`` describes, fresh or with what an earlier process left."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        folder = Path(state_dir) / digest[:32]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "identity.json", json.loads(json.dumps(identity, default=str)))
        state = cls(folder)
        state._read_journal()
        return state

    @property
    def wall_s(self) -> float:
        """Seconds that this search has taken, over all processes."""
        return self.earlier_wall_s + time.monotonic() - self.began

    def _read_journal(self) -> None:
        for entry in read_journal(self.folder / "journal.jsonl"):
            numbers = [float("nan") if value is None else float(value) for value in entry["score"]]
            key = (entry["text"], np.array(entry["choice"], dtype=np.int64).tobytes())
            self.scores[key] = Score(numbers[0], numbers[1], numbers[2], int(entry["tokens"]))
            self.earlier_wall_s = float(entry["wall_s"])

    def counted(self, text: str, raw: Callable[[np.ndarray], Score], limit: int | None = None) -> Counted:
        """``raw`` as an evaluator that counts, is answered from the journal where it can be, and writes it."""

        def journaled(choice: np.ndarray) -> Score:
            key = (text, np.ascontiguousarray(choice, dtype=np.int64).tobytes())
            if text.startswith("search"):
                self.searched = np.array(choice, dtype=np.int64)
            if key not in self.scores:
                score = raw(choice)
                self.scores[key] = score
                entry = {
                    "text": text,
                    "choice": [int(index) for index in choice],
                    "score": [float(x) if np.isfinite(x) else None for x in score[:3]],
                    "tokens": int(score.tokens),
                    "wall_s": self.wall_s,
                }
                with open(self.folder / "journal.jsonl", "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
            return self.scores[key]

        counter = Counted(journaled, limit=limit)
        self.counters.append(counter)
        return counter

    def known(self, text: str, choice: np.ndarray | None) -> Score | None:
        """The score of an allocation, if this search has evaluated it."""
        return (
            None if choice is None else self.scores.get((text, np.ascontiguousarray(choice, dtype=np.int64).tobytes()))
        )

    def save(self, state: dict[str, Any]) -> None:
        """Keep a method's state together with the counters and the rows of this moment, atomically."""
        import torch

        counts = [[counter.evals, counter.tokens] for counter in self.counters]
        with atomic_path(self.folder / "learner.pt") as partial:
            torch.save({"state": state, "counts": counts, "rows": json.dumps(self.rows)}, partial)

    def load(self) -> dict[str, Any] | None:
        """What ``save`` kept last, with counters and rows set back to that moment; None where there is nothing."""
        import torch

        path = self.folder / "learner.pt"
        if not path.is_file():
            return None
        kept = torch.load(path, weights_only=True)
        for counter, (evals, tokens) in zip(self.counters, kept["counts"], strict=True):
            counter.evals, counter.tokens = evals, tokens
        self.rows[:] = json.loads(kept["rows"])
        return kept["state"]

    def forget(self) -> None:
        """Delete the folder: the search is done and its result is in place."""
        remove(self.folder)
