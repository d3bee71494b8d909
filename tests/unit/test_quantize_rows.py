"""Worker processes that quantize: what a user reads where the system ends one of them."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from ramp.core.errors import RampError
from ramp.quantizers.quantize_rows import RowQuantizer
from tests.refusals import refused


def end_workers(quantizer: RowQuantizer) -> None:
    """As the kernel does where memory is short."""
    for process in list(quantizer._pool._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
        process.join()


@pytest.mark.parametrize("when", ["before the rows are given", "while they are quantized"])
def test_a_worker_that_the_system_ends_is_one_sentence(when: str) -> None:
    rows = np.ones((64, 32), dtype=np.float32)
    with RowQuantizer(1) as quantizer:
        pending = quantizer.submit(rows, "Q4_0", None, "w") if when.startswith("while") else []
        if pending:
            pending[0].result()
            pending += [quantizer._pool.submit(signal.pause)]  # type: ignore[list-item]
        end_workers(quantizer)
        calls = {
            "fewer --threads": lambda: quantizer.collect(pending or quantizer.submit(rows, "Q4_0", None, "w")),
            "memory": lambda: quantizer.quantize(rows, "Q4_0", None, "w"),
        }
        refused(RampError, calls)
