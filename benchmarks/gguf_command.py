"""A GGUF file by ``python -m ramp gguf``, from the checkpoint to the checked file, beside llama.cpp's own tools.

    python -m benchmarks.gguf_command --model-dir R/models/NAME --text R/texts/calibration.jsonl \\
        --heldout R/texts/heldout.jsonl --out FILE.json

The command measures an importance matrix, quantizes every tensor to every type, plans a file of at most the bytes of
llama.cpp's Q4_K_M, writes it, checks it in llama.cpp and measures its KL. The reference is the least that llama.cpp
needs for its Q4_K_M: the forward passes of the same calibration tokens (its imatrix tool does more in them), and its
quantizer with an importance matrix. Both sides have ``--threads`` (at least one) and start from files: a checkpoint,
and a float GGUF file.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError, Piece, Sample, alternate, command_line, median, parser, row
from ramp.core import cli
from ramp.core.job_log import job_cost

MIX = "Q4_K_M"


def prepare(model_dir: str, text: str, folder: str, tokens: int, length: int, threads: int) -> None:
    """Leave what the reference starts from: float file, importance matrix, token windows; and a mix for its size."""
    import numpy as np

    from ramp.export.llamacpp_quantize import quantize_apart
    from ramp.models.folder import ModelFolder
    from ramp.sized_gguf.importance import importance_windows, measure_importance
    from ramp.sized_gguf.rival import float_file

    model, place = ModelFolder(model_dir), Path(folder)
    length, count = importance_windows(model, tokens, length)
    windows = model.windows(Path(text), length=length, count=count)
    np.save(place / "windows.npy", windows.numpy())
    measure_importance(model, windows, place / "imatrix.gguf")
    quantize_apart(float_file(model, place), place / "size.gguf", MIX, table_type=None, threads=threads)


def forward(folder: str, threads: int) -> None:
    """Evaluate the calibration windows in llama.cpp."""
    import numpy as np

    from ramp.export.llamacpp import LlamaCpp

    windows = np.load(Path(folder) / "windows.npy")
    llama = LlamaCpp(Path(folder) / "float.gguf", context=windows.shape[1], threads=threads)
    for window in windows:
        llama.decode(window.tolist(), first=0)
    llama.close()


def quantize(folder: str, threads: int) -> None:
    """Make llama.cpp's mix with the importance matrix."""
    from ramp.export.llamacpp_quantize import quantize_gguf, read_importance_file

    place = Path(folder)
    importance = read_importance_file(place / "imatrix.gguf")
    quantize_gguf(
        place / "float.gguf", place / "mix.gguf", MIX, table_type=None, importance=importance, threads=threads
    )


def run(command: Sequence[str], log: Path) -> Sample:
    """Run a command and return what it and its processes took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with open(log, "w", encoding="utf-8") as stream:
        status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stream, check=False).returncode
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise BenchmarkError(f"a side of the comparison failed: {log.read_text(encoding='utf-8')[-300:]}")
    return Sample(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s)


def apart(function: str, *arguments: Any, log: Path) -> Sample:
    """Call a function of this module in an interpreter of its own: this process stays small, whose memory its children
    inherit as their least peak.
    """
    code = f"import json, sys; from benchmarks.gguf_command import {function}; {function}(*json.loads(sys.argv[1]))"
    return run([sys.executable, "-c", code, json.dumps(arguments)], log)


def measure(args: argparse.Namespace) -> Piece:
    """Time the command and the reference by turns."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, parts, cores = Path(temporary), list[Sample](), max(args.threads, 1)
        log, out = folder / "log", folder / "ours" / "model.gguf"
        apart("prepare", *map(str, (args.model_dir, args.text, folder)), args.tokens, args.length, cores, log=log)
        size, half = (folder / "size.gguf").stat().st_size, (folder / "float.gguf").stat().st_size // 2
        command = [
            *(sys.executable, "-m", "ramp", "gguf", str(args.model_dir.resolve()), "--size", str(size)),
            *("--text", str(args.text), "--heldout-text", str(args.heldout), "--no-rival"),
            *("--tokens", str(args.tokens), "--length", str(args.length), "--threads", str(cores)),
            *("--out", str(out)),
        ]

        def ours() -> Sample:
            shutil.rmtree(out.parent, ignore_errors=True)
            found = run(command, log)
            cost = job_cost(log)
            if cost is None:
                raise BenchmarkError(f"the command's log has no last line: {log.read_text(encoding='utf-8')[-300:]}")
            write_s = json.loads(out.with_suffix(".plan.json").read_text(encoding="utf-8"))["wall_s"]
            return Sample(found.cpu_s, found.wall_s, (cost.peak_rss_bytes, write_s))

        def reference() -> Sample:
            (folder / "mix.gguf").unlink(missing_ok=True)
            passes, mix = (apart(each, str(folder), cores, log=log) for each in ("forward", "quantize"))
            parts.append(mix)
            return Sample(passes.cpu_s + mix.cpu_s, passes.wall_s + mix.wall_s)

        mine, theirs = alternate(ours, reference, args.repeats)
        written = out.stat().st_size
    called = command_line("benchmarks.gguf_command", args)
    what = f"{args.model_dir.name} to a checked GGUF file of at most the bytes of {MIX}"
    peak = max(sample.value[0] for sample in mine)
    write_s = statistics.median(sample.value[1] for sample in mine)
    piece = Piece("benchmarks", detail={"bytes": written, "asked": size, "mix_alone_s": [x.wall_s for x in parts]})
    piece.keep("file", mine, theirs)
    least = "llama.cpp's part is its least: forward passes, without the sums of its imatrix tool"
    reading = f"reference: llama.cpp's passes of the same tokens and {MIX}"
    piece.rows = [
        row(f"{what}: time; {reading}", median(mine, "wall_s"), median(theirs, "wall_s"), "s", called, least),
        row(f"{what}: processor time; {reading}", median(mine), median(theirs), "processor s", called, least),
        row(f"{what}: writing the file; reference: llama.cpp's quantizer", write_s, median(parts, "wall_s"), "s",
            called, "ours copies tensors that the command has quantized already"),
        row(f"{what}: peak resident memory; reference: the float16 model", peak, half, "bytes", called,
            "mapped pages of the checkpoint included"),
    ]  # fmt: skip
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("A GGUF file of a size, beside llama.cpp's own tools.", repeats=3)
    options.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, required=True, help="calibration documents, JSON lines")
    options.add_argument("--heldout", type=Path, required=True, help="held-out documents, JSON lines")
    options.add_argument("--tokens", type=int, default=16384, help="calibration tokens behind the importance matrix")
    options.add_argument("--length", type=int, default=512, help="tokens per window of it")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    measure(args).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
