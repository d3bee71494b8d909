"""Digests of everything that a finished study left behind, by stage: what tells where two runs part.

    python -m ramp.records.digests --results R --out R/records/digests.json

The study is named by ``R/config.json``. ``python -m ramp publish`` copies the file to results/published, where it may
stand beside those of other studies; ``python -m ramp compare`` reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile
from ramp.core.provenance import Machine, versions

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.records.intermediate_digests import content_digest, stage_files
    from ramp.records.study_digests import StageDigests, StudyDigests, read_study, write_digests

log = logging.getLogger("ramp.records")


@dataclass(frozen=True)
class Evaluated:
    """Fields that are read of a metrics file."""

    hardware: str | None = None
    dtype: str | None = None


def study_digests(results: Path, config_hash: str = "") -> StudyDigests:
    """Return the digests of a results folder; ``RampError`` where it holds no file of any stage."""
    stages = [
        StageDigests(stage=stage, files={path.relative_to(results).as_posix(): content_digest(path) for path in files})
        for stage, files in stage_files(results)
    ]
    if not stages:
        raise RampError(f"{results} holds no file of any stage: run the study first, or name another folder")
    measured = [
        read_json(path, Evaluated) for stage, files in stage_files(results) if stage == "metrics" for path in files
    ]
    return StudyDigests(
        config_hash=config_hash,
        machine=Machine.here(),
        hardware=sorted({row.hardware for row in measured if row.hardware}),
        dtype=sorted({row.dtype for row in measured if row.dtype}),
        versions=versions(),
        stages=stages,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Write digests of everything that a finished study left behind.")
    parser.add_argument("--results", type=Path, required=True, help="results folder of the study")
    parser.add_argument("--config-hash", default="", help="of the study's configuration, as in the records")
    parser.add_argument("--threads", type=int, default=0, help="threads of the study's model jobs")
    parser.add_argument("--out", type=OutputFile, required=True, help="file to write")
    args = parser.parse_args(argv)
    study = read_study(args.results)
    found = study_digests(args.results, args.config_hash)
    write_digests(args.out, {study: found})
    counts = [f"{each.stage} {len(each.files)}" for each in found.stages]
    log.info("digests of study %s: %s", study, ", ".join(counts))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
