"""Journal of a search's evaluations, from which a killed search resumes to the same result, also after kill -9.

It lies in ``{state_dir}/{hash}/``, undeclared to Snakemake, which deletes the outputs of an interrupted job. The
hash covers the sources of every project module that the search imports, the method's file, its parameters, the input
files and the versions of the libraries: after an edit another hash starts afresh. Of a bank, whose weights are compared
with their checksum when it is opened, it takes the index, and of a file beyond ``HASHED_BYTES`` the size and the time
of its last change: reading the shards of a 7B takes half a minute of every search. The folder holds

- ``journal.jsonl``: one line per true evaluation (text, allocation, score, forward tokens, seconds, checksum). A
  rerun is answered from it, so any method that is deterministic in its seed resumes without code of its own; what it
  learns is computed again;
- ``identity.json``: what was hashed, for people.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt

from ramp.core.arithmetic import in_force
from ramp.core.atomic_files import DamagedFile, finite, parse_json, remove, set_aside, sha256_file, write_json
from ramp.core.source_closure import closure
from ramp.problem.problem import Evaluator, encode
from ramp.scoring.score_type import Score

ROOT = Path(__file__).resolve().parents[2]
Entry = TypeVar("Entry")
LINE_SEAL = "sha256"
"""Key of a line's checksum: 16 hexadecimal digits of the sha256 of the checksum before it and of the line's JSON."""

VERSIONS_OF = ("torch", "transformers", "numpy", "scipy", "pydantic", "safetensors", "gymnasium", "stable-baselines3")


HASHED_BYTES = 1 << 30
"""Input files up to this size are known by their bytes."""


def content_of(path: Path) -> str:
    """Return what changes when a file's content does: its sha256; of a large one, its size and last change."""
    about = path.stat()
    if about.st_size <= HASHED_BYTES:
        return sha256_file(path)
    return f"{about.st_size} bytes, changed at {about.st_mtime_ns} ns"


def describe(method_file: Path, inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a search: its sources, input files, library versions and settings."""
    method = method_file.resolve()
    own = str(method.relative_to(ROOT)) if method.is_relative_to(ROOT) else str(method)  # Path / "/x" is "/x"
    files: dict[str, str] = {}
    for name, path in inputs.items():
        parts = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        files |= {f"{name}:{part.relative_to(path) if path.is_dir() else ''}": content_of(part) for part in parts}
    return {
        "sources": {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/search/__main__.py", own)},
        "inputs": files,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS_OF},
        "settings": settings,
        "arithmetic": in_force(),
    }


class Journal(Generic[Entry]):
    """A file of one JSON object per line, each with a checksum of itself and of the lines before it."""

    def __init__(self, path: Path, model: type[Entry]) -> None:
        """model: what pydantic checks every line against."""
        self.path, self._model, self._chain = path, model, ""

    def read(self) -> list[Entry]:
        """Return the entries before the first damaged line; none where there is no file.

        A last line without its end, which a killed process leaves, is cut off. A file with any other damage is set
        aside, and goes on with its good lines.
        """
        self._chain = ""
        if not self.path.is_file():
            return []
        entries, whole, content = [], 0, self.path.read_bytes()
        try:
            for line in content.splitlines(keepends=True):
                if line.endswith(b"\n"):
                    entries.append(self._entry(line))
                    whole += len(line)
        except DamagedFile as error:
            set_aside(self.path, error)
            self.path.write_bytes(content[:whole])
        os.truncate(self.path, whole)
        return entries

    def _entry(self, line: bytes) -> Entry:
        known = parse_json(line, dict[str, Any], "a line")
        seal = known.pop(LINE_SEAL, None)
        if seal != self._next(known):
            raise DamagedFile("a line has another checksum than when it was written")
        entry = parse_json(json.dumps(known), self._model, "a line")
        self._chain = seal
        return entry

    def _next(self, entry: Mapping[str, Any]) -> str:
        return hashlib.sha256((self._chain + json.dumps(entry, sort_keys=True)).encode()).hexdigest()[:16]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line; ``read`` must have been called before."""
        self._chain = self._next(entry)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({**entry, LINE_SEAL: self._chain}) + "\n")


class Evaluated(BaseModel):
    """A line of a search's journal."""

    text: str
    choice: list[NonNegativeInt]
    score: tuple[float | None, float | None, float | None]
    tokens: NonNegativeInt
    wall_s: NonNegativeFloat


@dataclass
class SearchState:
    """State that is kept of one search: every known score, and the counters."""

    folder: Path
    scores: dict[tuple[str, str], Score] = field(default_factory=dict)  # by text and choice (encode)
    evaluators: dict[str, Evaluator] = field(default_factory=dict)  # by text
    earlier_wall_s: float = 0.0  # of the processes before this one, up to their last evaluation
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, state_dir: str | Path, identity: dict[str, Any]) -> SearchState:
        """Return the state of the search of this identity, fresh or with what an earlier process left."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        state = cls(Path(state_dir) / digest[:32])
        state.folder.mkdir(parents=True, exist_ok=True)
        write_json(state.folder / "identity.json", json.loads(json.dumps(identity, default=str)))
        for entry in state.journal.read():
            kl, ppl, nll = (float("nan") if value is None else value for value in entry.score)
            state.scores[entry.text, encode(entry.choice)] = Score(kl, ppl, nll, entry.tokens)
            state.earlier_wall_s = entry.wall_s
        return state

    @cached_property
    def journal(self) -> Journal[Evaluated]:
        """The journal of true evaluations."""
        return Journal(self.folder / "journal.jsonl", Evaluated)

    @property
    def wall_s(self) -> float:
        """Seconds that this search has taken, over all processes."""
        return self.earlier_wall_s + time.monotonic() - self.began

    def evaluator(self, text: str, raw: Callable[[np.ndarray], Score], limit: int | None = None) -> Evaluator:
        """Return a counting evaluator that asks ``raw`` only for scores that the journal lacks, and adds those."""

        def journaled(choice: np.ndarray) -> Score:
            key = text, encode(choice)
            if key not in self.scores:
                score = self.scores[key] = raw(choice)
                entry = {
                    "text": text,
                    "choice": [int(index) for index in choice],
                    "score": [finite(float(number)) for number in score[:3]],
                    "tokens": int(score.tokens),
                    "wall_s": self.wall_s,
                }
                self.journal.append(entry)
            return self.scores[key]

        self.evaluators[text] = Evaluator(journaled, limit=limit)
        return self.evaluators[text]

    def forget(self) -> None:
        """Delete the folder: the search is done and its result is in place."""
        remove(self.folder)
