"""Rows of a tensor quantized in worker processes: libgguf works on one core and holds Python's lock meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType

import numpy as np

from ramp.core.errors import RampError
from ramp.quantizers.ggml import quantize_ggml

TASK_WEIGHTS = 1 << 20
"""Weights per task: small enough that workers end together, large enough that passing them on costs nothing."""

Pending = list[Future[np.ndarray]]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what a broken pool raises into one sentence."""
    try:
        yield
    except BrokenProcessPool:
        raise RampError(
            "a process that quantizes was ended from outside, most often by the system because memory was short: use "
            "fewer --threads or close other programs, and run the same command again, it goes on where it stopped"
        ) from None


def _end_with(parent: int) -> None:
    """End this process soon after ``parent``: the workers of a killed run would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class RowQuantizer:
    """A pool of worker processes; use it as a context.

    Workers are forked when it is entered. They call libgguf and numpy alone, so that threads of the caller's other
    libraries, which a fork loses, are not missed.
    """

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(
            max(workers, 1), mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
        )

    def __enter__(self) -> RowQuantizer:
        with _one_sentence():
            self._pool.submit(int).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, values: np.ndarray, type_name: str, importance: np.ndarray | None, name: str) -> Pending:
        """Start quantizing float32 [rows, columns]; ``collect`` returns the bytes."""
        rows = max(TASK_WEIGHTS // values.shape[1], 1)
        with _one_sentence():
            return [
                self._pool.submit(quantize_ggml, values[start : start + rows], type_name, importance, name=name)
                for start in range(0, len(values), rows)
            ]

    def quantize(self, values: np.ndarray, type_name: str, importance: np.ndarray | None, name: str) -> np.ndarray:
        """Return the bytes of ``quantize_ggml``: rows are quantized one by one, so nothing depends on the workers."""
        return self.collect(self.submit(values, type_name, importance, name))

    @staticmethod
    def collect(pending: Sequence[Future[np.ndarray]]) -> np.ndarray:
        """Return the bytes uint8 [rows, row_bytes] of what ``submit`` started."""
        with _one_sentence():
            return np.concatenate([each.result() for each in pending])
