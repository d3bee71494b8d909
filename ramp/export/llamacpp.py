"""Stock llama.cpp from Python: load a GGUF file, tokenize, generate greedily, score token windows.

cyllama brings the library as a prebuilt wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from ramp.core.atomic_files import require_file
from ramp.core.errors import RampError

# Two OpenMP threads that spin while they wait starve each other on a busy two-core machine; libgomp reads this once,
# when it is loaded: with torch, so this module is imported before it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class LlamaCppError(RampError):
    """llama.cpp is not installed, or refused a batch or a text."""


class LoadError(LlamaCppError):
    """llama.cpp refused a file."""


class LlamaCpp:
    """A GGUF file in llama.cpp, on the CPU, for windows of up to ``context`` tokens; close it after use.

    Raises ``LoadError`` where llama.cpp refuses the file, ``LlamaCppError`` where cyllama is not installed.
    """

    def __init__(self, path: str | Path, *, context: int, threads: int = 2) -> None:
        require_file(path, "GGUF file")
        try:
            from cyllama.llama import llama_cpp as library
        except ImportError:
            raise LlamaCppError("llama.cpp is not installed: pip install cyllama") from None

        class Model(library.LlamaModel):
            """Model with the attribute from which cyllama 0.2.18 reads the number of logits: its own lacks it."""

            @property
            def n_vocab(self) -> int:
                return int(self.get_vocab().n_vocab)

        self.version = f"cyllama, ggml {library.ggml_version()} ({library.ggml_commit()})"
        library.disable_logging()
        parameters = library.LlamaModelParams()
        parameters.n_gpu_layers = 0
        try:
            self._model = Model(str(path), parameters, verbose=False)
            options = library.LlamaContextParams()
            options.n_ctx = options.n_batch = options.n_ubatch = context  # a window in one batch, all logits kept
            options.n_threads = options.n_threads_batch = max(threads, 1)
            self._context = library.LlamaContext(self._model, options, verbose=False)
        except (ValueError, RuntimeError) as error:
            raise LoadError(f"llama.cpp cannot load {path}: {error}") from None
        self._batch = library.LlamaBatch(n_tokens=context, embd=0, n_seq_max=1)
        self._size = context
        self.vocabulary = self._model.n_vocab  # tokens

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the token ids of a text; ``special`` adds begin and end tokens where the file asks for them."""
        try:
            ids = self._model.get_vocab().tokenize(text, add_special=special, parse_special=False)
        except (ValueError, RuntimeError) as error:
            raise LlamaCppError(f"llama.cpp cannot tokenize {text[:40]!r}: {error}") from None
        return [int(index) for index in ids]

    def logits(self, ids: list[int]) -> Iterator[np.ndarray]:
        """Yield the logits after each of ``ids``, float32 [vocab], from an empty context."""
        if not 0 < len(ids) <= self._size:
            raise LlamaCppError(f"a window of {len(ids)} tokens does not fit a context of {self._size}")
        self._context.kv_cache_clear()
        self._batch.clear()
        for position, index in enumerate(ids):
            self._batch.add(index, position, [0], True)
        try:
            self._context.decode(self._batch)
        except (ValueError, RuntimeError) as error:
            raise LlamaCppError(f"llama.cpp cannot evaluate {len(ids)} tokens: {error}") from None
        for position in range(len(ids)):
            yield np.asarray(self._context.get_logits_ith(position), dtype=np.float32)

    def decode(self, ids: list[int], *, first: int) -> None:
        """Evaluate ``ids`` from position ``first`` on, behind what was evaluated before; 0 empties the context."""
        if not first:
            self._context.kv_cache_clear()
        self._batch.clear()
        for offset, index in enumerate(ids):
            self._batch.add(index, first + offset, [0], offset == len(ids) - 1)
        try:
            self._context.decode(self._batch)
        except (ValueError, RuntimeError) as error:
            raise LlamaCppError(f"llama.cpp cannot evaluate {len(ids)} tokens: {error}") from None

    def close(self) -> None:
        """Release the model's memory."""
        self._batch.close()
        self._context.close()
        self._model.close()


MODULE = "cyllama.llama.llama_cpp"
"""The module that loads the library."""


@cache
def require_llamacpp() -> None:
    """Raise ``LlamaCppError`` where cyllama does not load llama.cpp.

    Tried in an interpreter of its own: a build for another processor ends the process, and a library that is loaded
    early may change how the others compute.
    """
    done = subprocess.run([sys.executable, "-c", f"import {MODULE}"], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        raise LlamaCppError(f"llama.cpp cannot be loaded from cyllama ({reason[:200]}): pip install cyllama")


def generate(llama: LlamaCpp, prompt: list[int], count: int) -> list[int]:
    """Return ``count`` tokens after ``prompt``, each the most probable one; end tokens do not stop it."""
    ids = list(prompt)
    for _ in range(count):
        last = None
        for last in llama.logits(ids):  # noqa: B007 - only the last position decides
            pass
        if last is None or not np.isfinite(last).all():
            raise LlamaCppError("llama.cpp gave no finite logits: the file is broken")
        ids.append(int(last.argmax()))
    return ids[len(prompt) :]


def window_nll(llama: LlamaCpp, ids: list[int]) -> np.ndarray:
    """Return the negative log-likelihood of ids[1:], each given all before it, in nats, float64 [len(ids) - 1]."""
    nll = np.empty(len(ids) - 1)
    for position, row in enumerate(llama.logits(ids)):
        if position + 1 < len(ids):
            values = row.astype(np.float64)
            peak = values.max()
            nll[position] = peak + np.log(np.exp(values - peak).sum()) - values[ids[position + 1]]
    if not np.isfinite(nll).all():
        raise LlamaCppError("llama.cpp gave logits that are not finite: the file is broken")
    return nll
