"""Host memory and time of quantizing a 7B from safetensors on disk, measured over its first blocks.

    python -m benchmarks.memory --folder SCRATCH --out FILE.json

writes a Llama checkpoint of the 7B's shape with random float16 weights (13.5 GB, all 32 blocks; deleted afterwards),
quantizes its first blocks by GPTQ in a process of its own, packing them into one file as they come, and reads that
process's memory from the kernel: the peak of the whole resident set (mapped pages of the checkpoint included, which the
kernel may drop), and the peak of the process's own memory (RssAnon). Only memory is measured to the end; the time of 32
blocks is extrapolated from the blocks that were run, and its row says so. Nothing in a block's memory depends on how
many blocks follow. Not measured: writing the packed checkpoint afterwards (``ramp.rows.checkpoint.save_packed``).

``--device cuda`` runs the blocks on a GPU: a row has its peak, the others stay those of host memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError, Piece, clock, command_line, parser, peak_bytes, row
from benchmarks.shapes import LLAMA_7B, BlockShape, write_checkpoint
from ramp.core import cli

LIMIT_BYTES = 6 << 30
"""The aim: 6 GiB of host memory."""


NOT_SEEN = "random weights; the packed checkpoint is not written"
"""Work that the measured process leaves out."""

SAMPLE_S = 0.02
"""Pause between two looks at RssAnon; the peak of the whole resident set needs none, the kernel keeps it."""


class AnonymousPeak:
    """Watches RssAnon, of which the kernel keeps no peak, from a thread."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.peak = max(self.peak, peak_bytes("RssAnon"))

    def __enter__(self) -> AnonymousPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def quantize(
    model_dir: Path, *, windows: int, length: int, bits: int, group_size: int, out: Path, seed: int, device: str = "cpu"
) -> dict[str, Any]:
    """Quantize what config.json names, keep it packed in ``out``, and say what it took (in a process of its own)."""
    import torch

    from ramp.core.provenance import peak_gpu_bytes
    from ramp.models import folder
    from ramp.models.device import pick_device
    from ramp.quantizers.store import PackedWriter
    from ramp.rows.sequential_quantization import quantize_model, uniform

    folder.check_checkpoint = lambda *_: None  # the file holds the whole model, config.json its first blocks
    model, place = folder.ModelFolder(model_dir), pick_device(device)
    config, linears = model.config, model.linears
    widths = uniform(linears, bits)
    tokens = torch.randint(0, config.vocab_size, (windows, length), generator=torch.Generator().manual_seed(seed))
    start = {"resident": peak_bytes("VmRSS"), "cpu": time.process_time(), "wall": time.perf_counter()}
    with AnonymousPeak() as watch:
        menu = {name: [width] for name, width in widths.items()}
        with PackedWriter(out / "linears.safetensors", linears, menu, group_size) as packed:
            quantize_model(
                model_dir, tokens, widths, fold={}, quantizer="gptq", group_size=group_size, keep=packed.put,
                device=place,
            )  # fmt: skip
    return {
        "peak_resident_bytes": peak_bytes("VmHWM"), "peak_own_bytes": watch.peak,
        "start_resident_bytes": start["resident"], "cpu_s": time.process_time() - start["cpu"],
        "wall_s": time.perf_counter() - start["wall"], "blocks": config.num_hidden_layers,
        "torch_threads": torch.get_num_threads(), "device": place.type, "peak_gpu_bytes": peak_gpu_bytes(place),
    }  # fmt: skip


def in_own_process(model_dir: Path, args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Run ``quantize`` in a fresh interpreter, so that its memory is measured alone."""
    command = [
        sys.executable, "-m", "benchmarks.memory", "--out", str(out / "measured.json"), "--inner", str(model_dir),
        *(word for key in ("windows", "length", "bits", "group_size", "threads", "seed", "device")
          for word in (f"--{key.replace('_', '-')}", str(getattr(args, key)))),
    ]  # fmt: skip
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise BenchmarkError(f"quantizing {model_dir} ended with status {done.returncode}: see the messages above")
    return dict(json.loads((out / "measured.json").read_text()))


def check_disk(folder: Path, shape: BlockShape) -> None:
    """Raise ``BenchmarkError`` unless ``folder`` has room for the checkpoint and a tenth more."""
    per_block = sum(d_out * d_in for d_out, d_in in shape.linears.values())
    need = int(1.1 * 2 * (shape.layers * per_block + 2 * shape.vocab * shape.hidden))
    free = shutil.disk_usage(folder).free
    if free < need:
        raise BenchmarkError(f"{folder} has {free / 1e9:.1f} GB free, the model needs {need / 1e9:.1f}: give --folder")


def measure(args: argparse.Namespace, shape: BlockShape) -> Piece:
    """Write the checkpoint, quantize its first blocks, delete it."""
    folder = args.folder or Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    check_disk(folder, shape)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model_dir = Path(temporary) / "model"
        size = write_checkpoint(model_dir, shape, args.seed, read_layers=args.blocks)
        out = Path(temporary) / "out"
        out.mkdir()
        found = in_own_process(model_dir, args, out)
    command = command_line("benchmarks.memory", args)
    what = f"GPTQ of a {size / 1e9:.1f} GB model from disk, first {found['blocks']} of {shape.layers} blocks"
    key, unit = clock(found["device"])
    whole = found[key] * shape.layers / found["blocks"]
    piece = Piece("benchmarks", detail={**found, "model_bytes": size})
    piece.rows = [
        row(f"{what}: peak resident memory; reference: the aim of 6 GiB", found["peak_resident_bytes"], LIMIT_BYTES,
            "bytes", command, f"mapped pages of the checkpoint included; {NOT_SEEN}"),
        row(f"{what}: peak resident memory; reference: the model's file", found["peak_resident_bytes"], size,
            "bytes", command, f"mapped pages of the checkpoint included; {NOT_SEEN}"),
        row(f"{what}: peak of the process's own memory; reference: the aim of 6 GiB", found["peak_own_bytes"],
            LIMIT_BYTES, "bytes", command, f"without mapped pages; sampled every 20 ms; {NOT_SEEN}"),
        row(f"{what}: time of all {shape.layers} blocks, extrapolated", whole, found[key], unit, command,
            f"extrapolated: {shape.layers}/{found['blocks']} of what was measured (reference)"),
    ]  # fmt: skip
    if found["peak_gpu_bytes"] is not None:
        piece.rows.append(row(f"{what}: peak of the GPU's memory; reference: the model's file", found["peak_gpu_bytes"],
                              size, "bytes", command, "as torch counts what it has given out"))  # fmt: skip
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Memory of quantizing a 7B from disk.", repeats=None)
    options.set_defaults(device="cpu")
    options.add_argument("--folder", type=Path, help="where the model is written; default: the system's")
    options.add_argument("--blocks", type=int, default=3, help="blocks that are quantized")
    options.add_argument("--windows", type=int, default=16, help="calibration windows")
    options.add_argument("--length", type=int, default=512, help="tokens per window")
    options.add_argument("--bits", type=int, default=4, help="width")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    options.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    if args.inner:
        found = quantize(
            args.inner, windows=args.windows, length=args.length, bits=args.bits, group_size=args.group_size,
            out=args.out.parent, seed=args.seed, device=args.device,
        )  # fmt: skip
        args.out.write_text(json.dumps(found))
        return 0
    measure(args, LLAMA_7B).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
