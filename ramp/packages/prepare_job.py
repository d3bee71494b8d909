"""Quantize one row by a package: write its job, run it in its own environment, and make sure of an outcome.

    python -m ramp.packages.prepare_job --model-dir R/models/M --text R/texts/calibration.jsonl --tokens 8192
    --length 512 \\
        --method-file baselines/NAME.py --environment .envs/NAME/environment.json --bits 4 --out R/packages/M/NAME-b4-s0

This stage writes ``job.json``, ``tokens.safetensors`` (the calibration windows of our own methods) and, by
``ramp.packages.run_job`` in the package's interpreter, ``linears/``, ``others.safetensors``, ``native/`` and
``outcome.json``. A package that is skipped, has no environment or is killed has an outcome too: the exit status is 0.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.atomic_files import read_json, write_json
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch

    from ramp.calibration.windows import calibration_windows
    from ramp.core import child_process
    from ramp.core.arithmetic import as_it_is
    from ramp.core.tensors import save_arrays
    from ramp.methods.kinds import Package
    from ramp.methods.loader import load_method, parse_params
    from ramp.methods.package_job import JOB, LINEARS, NATIVE, OUTCOME, TOKENS, JobSettings, Outcome, PackageError
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.packages.environment_lock import environment_lock
    from ramp.quantizers.sizes import group_size_for


@dataclass(frozen=True)
class Environment:
    """Fields of a package's ``environment.json`` that its jobs read."""

    ok: bool
    reason: str = ""
    python: str = ""  # interpreter


PROJECT = Path(__file__).resolve().parents[2]


def write_job(out: Path, model_dir: Path, tokens: torch.Tensor, settings: JobSettings) -> None:
    """Write ``job.json`` and ``tokens.safetensors``; ``tokens``: int64 [count, length]."""
    folder = ModelFolder(model_dir)
    folder.check()  # the package reads it with code of its own
    linears = folder.linears
    model = {
        "model_dir": str(model_dir.resolve()),
        "linears": [[x.name, x.d_out, x.d_in] for x in linears],
        "group_sizes": {x.name: group_size_for(x.d_in, settings.group_size) for x in linears},
    }
    out.mkdir(parents=True, exist_ok=True)
    save_arrays(out / TOKENS, {"tokens": tokens.numpy()})
    write_json(out / JOB, {**asdict(settings), **model}, sealed=True)


def obstacle(method: Package, environment: Path | None, bits: int) -> str:
    """Return why the package cannot run on this machine, or an empty string."""
    if reason := method.skip():
        return reason
    if bits not in method.bits:
        return f"it has no width of {bits} bits"
    if environment is None or not environment.is_file():
        return "its environment was not made"
    record = read_json(environment, Environment)
    return "" if record.ok else record.reason


def ended(status: int) -> str:
    """Return how a process without an outcome ended."""
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def run(python: str, method_file: str | Path, out: Path, threads: int) -> Outcome:
    """Run ``ramp.packages.run_job`` by the package's interpreter; return its outcome, or how the process ended."""
    environment = {name: value for name, value in as_it_is(os.environ).items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    line = [python, "-m", "ramp.packages.run_job", "--method-file", str(Path(method_file).resolve())]
    line += ["--job", str(out.resolve()), "--out", str(out.resolve())]
    line += ["--arithmetic", "fast"]  # a package computes as its users know it
    done = child_process.run(line, env=environment, cwd=out)  # packages leave logs where they are started
    outcome = out / OUTCOME
    return read_json(outcome, Outcome) if outcome.is_file() else Outcome(ok=False, reason=ended(done.returncode))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Quantize one row by a package.", "--method-file --params --group-size --seed --out/")
    add_text_arguments(parser)
    parser.add_argument("--environment", type=Path, default=None, help="the package's environment.json")
    parser.add_argument("--bits", type=int, required=True, help="width of the row")
    args = parser.parse_args(argv)
    method = load_method(args.method_file)
    if not isinstance(method, Package):
        raise PackageError(
            f"{args.method_file} registers a {type(method).__name__}, no Package: run ramp.rows.quantize"
        )
    params = parse_params(method, args.params).model_dump(mode="json")
    shutil.rmtree(args.out, ignore_errors=True)
    reason = obstacle(method, args.environment, args.bits)
    if not reason:
        windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length, draw=args.draw)
        device = str(pick_device(args.device))
        settings = JobSettings(args.bits, args.group_size, args.seed, args.threads, device, params)
        write_job(args.out, Path(args.model_dir), windows, settings)
        with environment_lock(args.environment.parent, shared=True):
            found = run(read_json(args.environment, Environment).python, args.method_file, args.out, args.threads)
    else:
        found = Outcome(ok=False, reason=reason)
    for name in (LINEARS, NATIVE):  # of a package that did not run, too: the rule promises both
        (args.out / name).mkdir(parents=True, exist_ok=True)
    about = {"method": method.name, "bits": args.bits, "group_size": args.group_size, "seed": args.seed}
    about |= {"params": params, "package": method.requirements[0].partition("==")[0]}
    write_json(args.out / OUTCOME, {**asdict(found), **about, "model": Path(args.model_dir).name}, sealed=True)
    log.info("%s: %s", method.name, "done" if found.ok else f"did not run: {found.reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
