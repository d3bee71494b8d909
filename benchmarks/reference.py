"""Client of a package in an environment of its own: one process behind a pipe for the whole benchmark.

The process runs ``benchmarks/worker.py`` with the other environment's interpreter, imports the package once, and then
answers one JSON line per job. Tensors go through safetensors files. It measures its own times, so that
neither the pipe nor the imports count.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measure import BenchmarkError
from ramp.core.arithmetic import as_it_is

WORKER = Path(__file__).with_name("worker.py")


class Reference:
    """``with Reference(python, threads, log) as reference: reference.ask("gptq", ...)``."""

    def __init__(self, python: Path, threads: int, log: Path, worker: Path = WORKER) -> None:
        if not python.is_file():
            raise BenchmarkError(f"no interpreter at {python}: make the reference's environment first")
        environment = {
            **as_it_is(os.environ), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_path = log
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [str(python.absolute()), str(worker.absolute()), "--threads", str(threads)],
            cwd=log.parent,  # packages leave logs where they stand
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip
        self.versions: dict[str, str] = self.ask("versions")["versions"]

    def ask(self, job: str, **values: Any) -> dict[str, Any]:
        """Send one job and return its answer; ``BenchmarkError`` with the worker's reason."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"job": job, **values}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchmarkError(
                f"the reference's process ended (status {self._process.wait()}) at job '{job}': see {self._log_path}"
            )
        answer: Mapping[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise BenchmarkError(f"the reference could not do '{job}': {answer['reason']} (see {self._log_path})")
        return dict(answer)

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._log.close()
