"""Make a package's own environment: a venv with its pinned requirements, and a record of its content.

    python -m ramp.packages.package_environment --requirements gptqmodel==7.6.0 torch==2.13.0 --out
    .envs/gptqmodel/environment.json \\
        --constraints workflow/envs/gptqmodel.constraints.txt

The venv lies in the record's folder. ``environment.json`` holds ``{ok, reason, python, requirements, freeze, check}``:
the interpreter, and the output of ``pip freeze`` and ``pip check``. Constraints pin indirect requirements; a venv that
fits them already is kept. What ``--lock`` holds of them is compared with its hashes; torch has none there, nor what the
index has as source alone. A failed installation is recorded (exit status 0), and its rows give the reason why they are
missing. Delete the folder to try again. A lock beside the folder keeps other runs out; what a killed installation
left is made again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import require_file, write_json
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.core import child_process
    from ramp.methods.package_job import one_sentence
    from ramp.packages.environment_lock import environment_lock

RUNNER = ("numpy", "pydantic>=2", "safetensors")
"""Requirements of ``ramp.packages.run_job``."""

FIRST = "torch"
"""Installed before the others: packages that are built from source import it."""


class InstallError(RuntimeError):
    """pip or venv failed; the message is its last line."""


def command(line: Sequence[str]) -> str:
    """Run a command with its output in the log; return that output."""
    log.info("%s", " ".join(line))
    done = child_process.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    sys.stderr.write(done.stdout)
    if done.returncode:
        faults = [text for text in done.stdout.splitlines() if "error" in text.lower()] or done.stdout.splitlines()
        raise InstallError(one_sentence(faults[-1] if faults else f"exit status {done.returncode}"))
    return done.stdout


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Return name -> version of lines ``name==version`` as pip compares them: no case, extras or local tag."""
    pinned = [line.partition("#")[0].strip().partition("==") for line in lines if "==" in line.partition("#")[0]]
    return {
        re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower(): wanted.partition("+")[0] for name, _, wanted in pinned
    }


def hashed(constraints: Iterable[str], lock: Path) -> list[str]:
    """Return the entries of a lock, hashes included, whose versions are those of the constraints."""
    entries = lock.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    wanted = pins(constraints)
    return [entry for entry in entries if (pin := pins([entry.partition(" ")[0]])) and pin.items() <= wanted.items()]


def fits(freeze: Sequence[str], requirements: Sequence[str], constraints: Sequence[str]) -> bool:
    """Return whether an installation has every requirement, and no package at another version than its constraint."""
    found, asked, wanted = pins(freeze), pins(requirements), pins(constraints)
    runner = {re.split("[<>=]", name)[0] for name in RUNNER}
    others = all(found[name] == wanted[name] for name in found.keys() & wanted.keys())
    return others and runner <= found.keys() and asked.items() <= found.items()


def install(
    folder: Path, requirements: Sequence[str], constraints: Path | None = None, lock: Path | None = None
) -> dict[str, Any]:
    """Make the venv at ``folder`` and install; return the content of ``environment.json``.

    What the constraints share with ``lock`` comes first, compared with its hashes."""
    python, unfinished = folder / "bin" / "python", folder.with_name(f".{folder.name}.unfinished")
    if folder.exists() and any(folder.iterdir()) and not (unfinished.exists() or (folder / "pyvenv.cfg").is_file()):
        raise RampError(
            f"{folder} holds something else, and would be replaced: give --out a file in a folder of its own"
        )
    record: dict[str, Any] = {"ok": False, "reason": "", "python": str(python.absolute()), "check": ""}
    record |= {"requirements": list(requirements), "freeze": []}
    fixed = require_file(constraints, "constraints").read_text(encoding="utf-8").splitlines() if constraints else []
    pip = [str(python), "-m", "pip"]
    try:
        record["freeze"] = [] if unfinished.exists() else frozen(python)
        if not fits(record["freeze"], requirements, fixed):
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.touch()
            shutil.rmtree(folder, ignore_errors=True)
            command([sys.executable, "-m", "venv", str(folder)])
            if known := hashed(fixed, lock) if lock else []:
                file = folder / "hashed.txt"
                file.write_text("\n".join(known), encoding="utf-8")
                command([*pip, "install", "--no-input", "--require-hashes", "--no-deps", "-r", str(file)])
            first = [each for each in requirements if each.startswith(f"{FIRST}==")]
            options = ["--constraint", str(constraints)] if constraints else []
            for batch in filter(None, (first, [*requirements, *RUNNER])):
                command([*pip, "install", "--no-input", *options, *batch])
            record["freeze"] = command([*pip, "freeze"]).splitlines()
            unfinished.unlink()
        record["ok"] = True
    except InstallError as error:
        return record | {"reason": f"its environment cannot be installed here: {error}"}
    try:
        record["check"] = command([*pip, "check"]).strip()
    except InstallError as error:
        record["check"] = str(error)  # packages that contradict each other may still run
    return record


def frozen(python: Path) -> list[str]:
    """Return a venv's packages; none where there is no venv or it does not run."""
    if not python.is_file():
        return []
    try:
        return command([str(python), "-m", "pip", "freeze"]).splitlines()
    except InstallError:
        return []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Make a package's own environment.")
    parser.add_argument("--requirements", nargs="+", required=True, metavar="NAME==VERSION", help="pinned")
    parser.add_argument("--constraints", type=Path, default=None, help="versions of indirect requirements")
    parser.add_argument("--lock", type=Path, default=None, help="requirements with the sha256 of their files")
    parser.add_argument("--out", type=OutputFile, required=True, help="environment.json; the venv is its folder")
    args = parser.parse_args(argv)
    folder = args.out.absolute().parent
    with environment_lock(folder, shared=False):
        record = install(folder, args.requirements, args.constraints, args.lock)
        write_json(args.out, record)
    log.info("%s", "ready" if record["ok"] else record["reason"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
