"""Write workflow/envs/NAME.constraints.txt, packages.lock, and NAME.yml where there is none, from working environments.

    make freeze
    python -m workflow.scripts.freeze_environments [.envs/NAME/environment.json ...]

Constraints are ``pip freeze`` without local version tags (``2.13.0+cpu`` -> ``2.13.0``), so that they install from the
public index on a processor and on a GPU alike. Something that was installed from a folder or an address is refused: it
cannot be installed elsewhere. packages.lock has the sha256 of every wheel that the package index serves of all of them;
torch, and what the index has as source alone, are installed by version.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import read_json, write_text
from ramp.core.errors import RampError
from workflow.scripts.make_environment import INDEX, UNHASHED, canonical, hashes_of, lock_entry, served

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+")

HEAD = """\
# Every distribution of this environment, pinned. Made by `make freeze` (workflow/scripts/freeze_environments.py) from
# one that works; do not edit by hand. Install: pip install -c workflow/envs/{name}.constraints.txt {requirements}
"""

LOCK_HEAD = """\
# What the environments of packages hold, with the sha256 of its wheels; a name may stand at several versions. torch is
# not here, and what the index has as source alone. Made by `make freeze` (workflow/scripts/freeze_environments.py).
# An environment takes its versions from here first: pip install --require-hashes --no-deps.
"""

CONDA = """\
# For conda users; the workflow makes the same environment with pip.
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
      - -c {name}.constraints.txt
"""


class FreezeError(RampError):
    """An environment that cannot be installed elsewhere."""


def constraints_text(name: str, record: dict) -> str:
    """Return NAME.constraints.txt of an environment's record."""
    if not record["ok"]:
        raise FreezeError(f"environment '{name}' was not made ({record['reason']}): delete its folder and try again")
    if others := [line for line in record["freeze"] if not PIN.fullmatch(line)]:
        raise FreezeError(f"environment '{name}' holds '{others[0]}', which no index has: install a released version")
    lines = sorted((line.partition("+")[0] for line in record["freeze"]), key=str.lower)
    head = HEAD.format(name=name, requirements=" ".join(record["requirements"]))
    return head + "".join(f"{line}\n" for line in lines)


def conda_text(name: str, record: dict) -> str:
    """Return NAME.yml of an environment's record."""
    return CONDA.format(name=name) + "".join(f"      - {each}\n" for each in record["requirements"])


def lock_text(pins: Iterable[str]) -> str:
    """Return packages.lock of lines ``name==version``: those of which the package index has wheels."""
    pairs = sorted({(canonical(name), version) for name, _, version in (line.partition("==") for line in pins)})
    text = LOCK_HEAD
    for name, version in pairs:
        if name == UNHASHED:
            continue
        try:
            files = served(name)
        except OSError as error:
            raise FreezeError(f"{INDEX} does not list {name} ({error}): try again, for packages.lock too") from None
        if hashes := hashes_of(files, version, wheels_alone=True):
            text += lock_entry(name, version, hashes)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files of the named environments, or of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "records", nargs="*", type=Path, help="environment.json of each; all of .envs, where none is named"
    )
    parser.add_argument("--out", type=Path, default=Path("workflow/envs"), help="folder to write")
    args = parser.parse_args(argv)
    try:
        for file in args.records or sorted(Path(".envs").glob("*/environment.json")):
            name, record = file.parent.name, read_json(file, dict[str, Any])
            write_text(args.out / f"{name}.constraints.txt", constraints_text(name, record))
            if not (args.out / f"{name}.yml").is_file():
                write_text(args.out / f"{name}.yml", conda_text(name, record))
            print(f"{name}: {len(record['freeze'])} distributions")
        constraints = sorted(args.out.glob("*.constraints.txt"))
        pins = {line for file in constraints for line in file.read_text(encoding="utf-8").splitlines()}
        write_text(args.out / "packages.lock", lock_text(filter(PIN.fullmatch, pins)))
    except RampError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
