"""Speed and memory of a GGUF file in stock llama.cpp, measured in a process of its own."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ramp.core.provenance import peak_rss_bytes
from ramp.export.llamacpp import LlamaCpp, LlamaCppError

PROMPT_TOKENS, GENERATED_TOKENS, ROUNDS = 256, 32, 3


@dataclass(frozen=True)
class Speed:
    """Medians over a few repeats; compare them with those of other files of the same run only."""

    prompt_tokens_per_s: float
    generation_tokens_per_s: float
    peak_rss_bytes: int  # of a process that runs this file and nothing else


def measure_speeds(paths: Sequence[Path], threads: int) -> dict[Path, Speed]:
    """Return the speed of every file: medians of rounds in which each is measured once, so that noise is shared."""
    rounds = [{path: measure_speed(path, threads) for path in paths} for _ in range(ROUNDS)]
    return {
        path: Speed(
            statistics.median(each[path].prompt_tokens_per_s for each in rounds),
            statistics.median(each[path].generation_tokens_per_s for each in rounds),
            max(each[path].peak_rss_bytes for each in rounds),
        )
        for path in paths
    }


def measure_speed(path: Path, threads: int) -> Speed:
    """Return the speed of one file: a prompt in one batch, then one token after the other.

    Raises ``LlamaCppError`` where llama.cpp does not run the file.
    """
    code = "import sys; from ramp.sized_gguf.speed import report; report(sys.argv[1], int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(Path(path).resolve()), str(threads)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LlamaCppError(f"llama.cpp does not run {path}: {reason[:200]}")
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def report(path: str, threads: int) -> None:
    """Print the speed of one file as JSON: in a process that holds nothing else."""
    print(json.dumps(asdict(_measure(Path(path), threads))))


def _measure(path: Path, threads: int) -> Speed:
    llama = LlamaCpp(path, context=PROMPT_TOKENS + GENERATED_TOKENS, threads=threads)
    ids = [(index % 200 + 5) % llama.vocabulary for index in range(PROMPT_TOKENS)]
    try:
        llama.decode(ids[:8], first=0)  # reads the weights from the disk
        started = time.perf_counter()
        llama.decode(ids, first=0)
        middle = time.perf_counter()
        for position in range(PROMPT_TOKENS, PROMPT_TOKENS + GENERATED_TOKENS):
            llama.decode([ids[position % PROMPT_TOKENS]], first=position)
        ended = time.perf_counter()
    finally:
        llama.close()
    return Speed(PROMPT_TOKENS / (middle - started), GENERATED_TOKENS / (ended - middle), own_peak_bytes())


def own_peak_bytes() -> int:
    """Return the largest resident set of this process since it started its program.

    ``ru_maxrss`` of a process that another one started is at least that of the other: Linux keeps it over exec.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.is_file() else None
    return 1024 * int(found[1]) if found else peak_rss_bytes()
