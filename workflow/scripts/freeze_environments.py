"""Write workflow/envs/NAME.constraints.txt, and NAME.yml where there is none, from environments that work.

    make freeze
    python -m workflow.scripts.freeze_environments [.envs/NAME/environment.json ...]

Constraints are ``pip freeze`` without local version tags (``2.13.0+cpu`` -> ``2.13.0``), so that they install from the
public index on a processor and on a GPU alike. Something that was installed from a folder or an address is refused: it
cannot be installed elsewhere.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import read_json, write_text
from ramp.core.errors import RampError

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+")

HEAD = """\
# Every distribution of this environment, pinned. Made by `make freeze` (workflow/scripts/freeze_environments.py) from
# one that works; do not edit by hand. Install: pip install -c workflow/envs/{name}.constraints.txt {requirements}
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
    except RampError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
