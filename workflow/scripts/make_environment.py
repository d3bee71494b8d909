"""Write requirements.lock, torch.lock and conda's files from the environment that runs this: ``make lock``.

The lock holds every distribution that the names in pyproject.toml need, at the version installed here, with the sha256
of every wheel that the package index serves of it for this Python, on any platform (of the source archive, where there
is no wheel). torch stands apart, without hashes: its wheels for processors and for GPUs are different files of one
version, and the former lie on an index of their own. It is the only one, and is installed last, from one index, when
all that it needs is there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
import urllib.request
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

INDEX = "https://pypi.org/simple"
PYTHON = (3, 11)
UNHASHED = "torch"

LOCK_HEAD = """\
# Every package of the main environment but torch, pinned with the sha256 of its files. Made by `make lock`
# (workflow/scripts/make_environment.py) from an environment that passes the tests; do not edit by hand.
# Installed by ./install: pip install --require-hashes --no-deps -r requirements.lock
"""

TORCH_HEAD = """\
# Installed by ./install after requirements.lock, without hashes: processors and GPUs have different files of a version.
"""

CONDA_HEAD = """\
# For conda users: conda env create -f environment.yml && conda activate ramp
# Made by `make lock` with the versions of requirements.lock; conda calls pip once, and pip takes hashes of all packages
# or of none, so that torch leaves the others without. It holds snakemake, torch, transformers, datasets, lm-eval, gguf,
# pandas, matplotlib and pytest. auto-gptq and autoawq need older or conflicting packages and have environments
# of their own: workflow/envs/autogptq.yml and workflow/envs/autoawq.yml (and their successor's, gptqmodel.yml).
name: ramp
"""

RULES_HEAD = """\
# The environment of every rule for those who pass --sdm conda. Made by `make lock`; versions of requirements.lock.
"""

CONDA_FILES = {"environment.yml": CONDA_HEAD, "workflow/envs/main.yml": RULES_HEAD}


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


def fits_python(tag: Any) -> bool:
    """Return whether a wheel's tag is one of this Python, on any platform."""
    found = re.fullmatch(r"(py|cp)(\d)(\d*)", tag.interpreter)
    if found is None or int(found[2]) != PYTHON[0]:
        return False
    minor = int(found[3] or 0)
    return minor == PYTHON[1] or (minor <= PYTHON[1] and (found[1] == "py" or tag.abi == "abi3"))


def hashes_of(files: Iterable[Mapping[str, Any]], version: str, *, wheels_alone: bool = False) -> list[str]:
    """Return the sha256 of the wheels of a version among an index's files, sorted.

    Where it has no wheel, that of its source archive, unless ``wheels_alone``."""
    wheels, sources = set(), set()
    for file in files:
        name, digest = file["filename"], file["hashes"]["sha256"]
        try:
            if name.endswith(".whl"):
                _, found, _, tags = parse_wheel_filename(name)
                if found == Version(version) and any(map(fits_python, tags)):
                    wheels.add(digest)
            elif parse_sdist_filename(name)[1] == Version(version):
                sources.add(digest)
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue  # an egg, an installer
    return sorted(wheels or (() if wheels_alone else sources))


def served(name: str) -> list[Mapping[str, Any]]:
    """Return the files of a distribution on the package index (PEP 691)."""
    asked = urllib.request.Request(f"{INDEX}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return list(json.load(answer)["files"])


def lock_entry(name: str, version: str, hashes: Iterable[str]) -> str:
    """Return a distribution's lines of a lock: its version and the sha256 of each of its files."""
    return " \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{each}" for each in hashes)]) + "\n"


def lock_text(versions: Mapping[str, str], hashes: Mapping[str, list[str]]) -> str:
    """Return requirements.lock; ``LookupError`` for a version of which the index has no file."""
    text = LOCK_HEAD
    for name, version in sorted(versions.items()):
        if name != UNHASHED:
            if not hashes[name]:
                raise LookupError(f"{INDEX} has no file of {name}=={version}: install a released version first")
            text += lock_entry(name, version, hashes[name])
    return text


def torch_text(versions: Mapping[str, str]) -> str:
    """Return torch.lock."""
    return f"{TORCH_HEAD}{UNHASHED}=={versions[UNHASHED]}\n"


def conda_text(head: str, versions: Mapping[str, str]) -> str:
    """Return an environment for conda: Python, and the versions through pip."""
    pins = "".join(f"      - {name}=={version}\n" for name, version in sorted(versions.items()))
    return f"{head}channels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n{pins}"


def main() -> int:
    """Write the files into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="project folder")
    root = parser.parse_args().root
    try:
        versions = closure(wanted(root / "pyproject.toml"))
        hashes = {name: hashes_of(served(name), version) for name, version in versions.items() if name != UNHASHED}
        lock = lock_text(versions, hashes)
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: no answer of {INDEX} ({error}): try again", file=sys.stderr)
        return 2
    (root / "requirements.lock").write_text(lock, encoding="utf-8")
    (root / "torch.lock").write_text(torch_text(versions), encoding="utf-8")
    for file, head in CONDA_FILES.items():
        (root / file).write_text(conda_text(head, versions), encoding="utf-8")
    print(f"requirements.lock: {len(versions)} packages, {sum(map(len, hashes.values()))} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
