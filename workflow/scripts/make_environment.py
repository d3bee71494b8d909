"""Write requirements.lock and environment.yml from the environment that runs this: ``make lock``.

The lock holds every distribution that the names in pyproject.toml need, at the version installed here, without local
version tags (``2.13.0+cpu`` -> ``2.13.0``), hashes or index addresses, so that one file serves processors and GPUs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

LOCK_HEAD = """\
# Every package of the main environment, pinned. Made by `make lock` (workflow/scripts/make_environment.py) from an
# environment that passes the tests; do not edit by hand. Install: pip install -r requirements.lock
"""

CONDA_HEAD = """\
# For conda users: conda env create -f environment.yml && conda activate ramp
# Made by `make lock` from the same lock as everything else. It holds snakemake, torch, transformers, datasets, lm-eval,
# gguf, pandas, matplotlib and pytest. auto-gptq and autoawq need older or conflicting packages and have environments
# of their own: workflow/envs/autogptq.yml and workflow/envs/autoawq.yml (and their successor's, gptqmodel.yml).
name: ramp
channels:
  - conda-forge
dependencies:
"""


def canonical(name: str) -> str:
    """Return a distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(pyproject: Path) -> list[str]:
    """Return the names in pyproject.toml, the development extra included."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]


def closure(names: Iterable[str]) -> dict[str, str]:
    """Return installed versions of ``names`` and of all that they need; ``LookupError`` where one is missing."""
    installed = {canonical(one.metadata["Name"]): one for one in distributions()}
    found: dict[str, str] = {}
    waiting = [Requirement(name) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name not in installed:
            raise LookupError(f"'{name}' is not installed here: pip install it first")
        found[name] = installed[name].version.split("+")[0]
        for line in installed[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                waiting.append(needed)
    return found


def lock_text(versions: dict[str, str]) -> str:
    """Return requirements.lock."""
    return LOCK_HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def conda_text() -> str:
    """Return environment.yml: Python, and the lock through pip."""
    return CONDA_HEAD + "  - python=3.11\n  - pip\n  - pip:\n      - -r requirements.lock\n"


def main() -> int:
    """Write both files into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="project folder")
    root = parser.parse_args().root
    try:
        versions = closure(wanted(root / "pyproject.toml"))
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (root / "requirements.lock").write_text(lock_text(versions), encoding="utf-8")
    (root / "environment.yml").write_text(conda_text(), encoding="utf-8")
    print(f"requirements.lock: {len(versions)} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
