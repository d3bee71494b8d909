"""Speed of this checkout beside another one of the project: stages by turns, ratios with their spread.

    git worktree add ../before main
    python -m benchmarks.against ../before --model-dir R/models/M --text R/texts/search.jsonl --out FILE.json

Each checkout has one process (benchmarks/against_worker.py) that loads the model once and then does one stage at a
time when it is asked to; they take turns, so that a busy machine slows both alike. A stage's ratio is the median over
pairs of processor seconds here to processor seconds there, with the least and the greatest; below 1 is faster here.
What a stage computed is compared by its digest. Reproducible arithmetic, one thread. ``--blocks`` takes the first
decoder blocks of the model alone; a stage of SmolLM2 at its full depth takes a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.against_worker import STAGES
from benchmarks.measure import BenchmarkError, Piece, Sample, alternate, command_line, compared, parser
from ramp.core import arithmetic, cli
from ramp.core.atomic_files import read_json, require_file, write_json

HERE = Path(__file__).resolve().parents[1]


class Checkout:
    """The process of one checkout."""

    def __init__(self, root: Path, job: dict[str, Any]) -> None:
        self.root = root
        environment = {**os.environ, **arithmetic.ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        command = [sys.executable, "-P", str(HERE / "benchmarks" / "against_worker.py")]
        self._process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask(job)

    def _ask(self, words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the stages of {self.root} cannot be timed: see its last line above")
        return json.loads(line)

    def time(self, stage: str) -> Sample:
        """Do a stage once; the value is the digest of what it gave."""
        return Sample(*self._ask(stage))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def cut(model_dir: Path, blocks: int, into: Path) -> Path:
    """Write a checkpoint folder of a model's first decoder blocks; return it."""
    from safetensors.torch import save_file

    from ramp.models.architecture import architecture
    from ramp.models.folder import ModelFolder

    model = ModelFolder(model_dir)
    path = architecture(model.config).blocks + "."
    shutil.copytree(model_dir, into, ignore=shutil.ignore_patterns("*.safetensors*"))
    config = read_json(into / "config.json", dict[str, Any])
    write_json(into / "config.json", {**config, "num_hidden_layers": min(blocks, config["num_hidden_layers"])})
    names = [x for x in model.reader.names() if not x.startswith(path) or int(x[len(path) :].split(".")[0]) < blocks]
    save_file(
        {name: model.reader.get(name).contiguous() for name in names}, into / "model.safetensors", {"format": "pt"}
    )
    return into


def spread(ours: Sequence[Sample], reference: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the median, the least and the greatest ratio of processor seconds over pairs."""
    ratios = sorted(a.cpu_s / max(b.cpu_s, 1e-9) for a, b in zip(ours, reference, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]


def measure(args: Any, job: dict[str, Any]) -> Piece:
    """Time every stage in both checkouts by turns."""
    sides = [Checkout(root, job) for root in (HERE, args.other)]
    piece = Piece("benchmarks", detail={"other": str(args.other)})
    options = argparse.Namespace(**{key: value for key, value in vars(args).items() if key != "other"})
    module = "benchmarks.against"
    command = command_line(module, options).replace(module, f"{module} {shlex.quote(str(args.other))}", 1)
    for stage in args.stages:
        for side in sides:
            side.time(stage)  # warm
        ours, reference = alternate(
            lambda: sides[0].time(stage),  # noqa: B023
            lambda: sides[1].time(stage),  # noqa: B023
            args.repeats,
        )
        middle, least, greatest = spread(ours, reference)
        equal = "equal" if len({sample.value for sample in (*ours, *reference)}) == 1 else "not equal"
        note = f"ratio of pairs {middle:.3f}, {least:.3f} to {greatest:.3f} in {args.repeats}; results {equal}"
        piece.keep(stage, ours, reference)
        piece.rows.append(compared(f"{stage} of {args.model_dir.name}, this checkout; reference: another", ours,
                                   reference, command, note))  # fmt: skip
        print(f"{stage:12} {piece.rows[-1]['ours']:9.3f} s beside {piece.rows[-1]['reference']:9.3f} s: {note}")
    for side in sides:
        side.close()
    return piece


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    options = parser("Stages of this checkout beside those of another one.", repeats=5)
    options.add_argument("other", type=Path, help="folder of the other checkout")
    options.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, required=True, help="documents, JSON lines")
    options.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="what is timed")
    options.add_argument("--blocks", type=int, default=0, help="decoder blocks of the model that are taken; 0: all")
    options.add_argument("--tokens", type=int, default=2048, help="tokens of a stage")
    options.add_argument("--group-size", type=int, default=64, help="weights that share one scale")
    args = options.parse_args(argv)
    args.other = args.other.resolve()
    require_file(args.other / "ramp" / "__main__.py", "other checkout's package ramp")
    with tempfile.TemporaryDirectory() as scratch:
        model = cut(args.model_dir, args.blocks, Path(scratch) / "model") if args.blocks else args.model_dir.resolve()
        job = {"model_dir": str(model), "text": str(args.text.resolve())}
        job |= {"tokens": args.tokens, "group_size": args.group_size}
        measure(args, job).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
