"""HALO: write an allocation as a GGUF file that stock llama.cpp runs, and check that file.

    python -m ramp.export.halo export --model-dir D --fold F --allocation F --calibration F --track q8_0 --out F.gguf
    python -m ramp.export.halo float  --model-dir D --out F.gguf
    python -m ramp.export.halo check  --gguf F --plan F --model-dir D --text F --length 512 --windows 2 --limit 0.03
    --out F
    python -m ramp.export.halo row    --gguf F --plan F --model-dir D --study S --allocation F --out R/quantized/M/ROW

``export`` and ``float`` write ``F.gguf`` and ``F.plan.json`` (``ramp.export.plan.GgufPlan``), ``export`` also
``F.types.txt`` (llama.cpp's ``--tensor-type-file``). ``check`` writes a list of ``ramp.export.llamacpp_check.Check``
and exits 1 if one failed; with ``--keep-going`` (the workflow) it exits 0, and tables and claims read the file. ``row``
writes the folder that evaluation reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.export.llamacpp_check import check_file
    from ramp.export.plan import read_plan
    from ramp.export.row import write_row
    from ramp.export.write import export
    from ramp.problem.allocation import read_allocation


def check(args: argparse.Namespace) -> int:
    """Run the checks of one file, write them and log the failed ones; 0 if none failed, or with ``--keep-going``."""
    checks = check_file(
        args.gguf,
        read_plan(args.plan),
        args.model_dir,
        args.text,
        length=args.length,
        windows=args.windows,
        limit=args.limit,
        threads=args.threads or 2,
    )
    write_json(args.out, [asdict(one) for one in checks], sealed=True)
    failed = [one for one in checks if not one.ok]
    for one in failed:
        log.error("check failed: %s: %s is %g, limit %g", one.file, one.check, one.value, one.limit)
    return 1 if failed and not args.keep_going else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see the module's docstring."""
    top = cli.Parser(description="Write an allocation as GGUF and check it in stock llama.cpp.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, options: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        cli.add_common(made, f"--model-dir {options}")
        return made

    one = command("export", "write the GGUF file of an allocation, its plan and its type file", "--out --track")
    one.add_argument("--fold", type=Path, default=None, help="scales by site; none: unfolded weights")
    one.add_argument("--allocation", type=Path, required=True, help="allocation file with bits by linear")
    one.add_argument("--calibration", type=Path, required=True, help="statistics of the unfolded model")
    command("float", "write the unfolded model as a float32 GGUF file", "--out")
    one = command("check", "compare a GGUF file with its plan, with llama.cpp and with transformers", "--out")
    one.add_argument("--gguf", type=Path, required=True)
    one.add_argument("--plan", type=Path, required=True)
    one.add_argument("--text", type=Path, required=True, help="a role's documents (JSON lines)")
    one.add_argument("--length", type=int, default=512, help="tokens per window, at most the model's context")
    one.add_argument("--windows", type=int, default=2, help="number of windows")
    one.add_argument("--limit", type=float, default=None, help="relative difference in perplexity; None: by file kind")
    one.add_argument("--keep-going", action="store_true", help="exit 0 although a check failed")
    one = command("row", "write the row folder of a GGUF file", "--out/ --study")
    one.add_argument("--gguf", type=Path, required=True)
    one.add_argument("--plan", type=Path, required=True)
    one.add_argument("--allocation", type=Path, required=True)
    args = top.parse_args(argv)
    if args.command == "check":
        return check(args)
    if args.command == "float":
        export(args.model_dir, args.out)
    elif args.command == "export":
        allocation = read_allocation(args.allocation)
        export(
            args.model_dir, args.out, allocation, args.calibration,
            fold=args.fold, track=args.track, workers=args.threads,
        )  # fmt: skip
    else:
        plan, allocation = read_plan(args.plan), read_allocation(args.allocation)
        write_row(args.gguf, plan, args.model_dir, allocation.model_dump(), args.study, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
