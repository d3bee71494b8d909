"""Run one package on one job, in the package's own environment, and write ``outcome.json``.

    .envs/NAME/bin/python -m ramp.packages.run_job --method-file baselines/NAME.py --job JOB --out JOB

JOB holds ``job.json`` and ``tokens.safetensors`` (``ramp.packages.prepare_job``). A package that fails loses its row
only: the exit status is 0 and ``outcome.json`` (``ramp.methods.package_job.Outcome``) holds the reason. It needs
pydantic, numpy and safetensors only.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, write_json
from ramp.core.provenance import peak_rss_bytes, versions

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.core.tensors import load_tensors
    from ramp.methods.kinds import Package
    from ramp.methods.loader import load_method, parse_params
    from ramp.methods.package_job import (
        JOB,
        NATIVE,
        OUTCOME,
        TOKENS,
        Outcome,
        PackageError,
        PackageJob,
        WrittenJob,
        one_sentence,
    )


def read_job(folder: Path, out: Path) -> tuple[PackageJob, dict[str, Any]]:
    """Return the job for the package, and the parameters of its method."""
    asked = dict(vars(read_json(folder / JOB, WrittenJob, sealed=True)))
    params = asked.pop("params")
    asked["linears"] = {name: (d_out, d_in) for name, d_out, d_in in asked["linears"]}
    tokens, work = load_tensors(folder / TOKENS, "tokens of a job", framework="np")["tokens"], out / NATIVE
    work.mkdir(parents=True, exist_ok=True)
    return PackageJob(**asked, tokens=tokens, work_dir=work.resolve(), out_dir=out.resolve()), params


def message(error: BaseException) -> str:
    """Return an exception's message; for one without (a bare assertion), the line of code that raised it."""
    if str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].line or "" if frames else ""


def quantize(method_file: str | Path, folder: Path, out: Path) -> Outcome:
    """Load the method, run it, write what it keeps; return how it ended."""
    began = time.monotonic()
    job, method = None, None
    try:
        method = load_method(method_file)
        if not isinstance(method, Package):
            raise PackageError(f"{method_file} registers a {type(method).__name__}, no Package")
        job, params = read_job(folder, out)
        method.quantize(job, parse_params(method, params))
        job.finish()
        ok, reason = True, ""
    except (Exception, SystemExit) as error:  # a package may fail in any way: its row gives the reason
        traceback.print_exc()
        ok, reason = False, one_sentence(f"{type(error).__name__}: {message(error)}")
    required = method.requirements if isinstance(method, Package) else ()
    return Outcome(
        ok=ok,
        reason=reason,
        note="; ".join(job.notes) if job else "",
        native_files=job.native_files if job else [],
        linears=job.kept if job else {},
        wall_s=round(time.monotonic() - began, 3),
        peak_rss_bytes=peak_rss_bytes(),
        versions=versions(each.partition("==")[0].partition("[")[0] for each in required),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Run one package on one job, in its own environment.", "--method-file --out/")
    parser.add_argument("--job", type=Path, required=True, help="folder with job.json and tokens.safetensors")
    args = parser.parse_args(argv)
    found = quantize(args.method_file, args.job, args.out)
    write_json(args.out / OUTCOME, asdict(found), sealed=True)
    print(f"{'done' if found.ok else found.reason}, {found.wall_s} s; {found.note}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
