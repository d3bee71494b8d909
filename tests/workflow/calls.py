"""Calls of Snakemake by the workflow tests, and what they read from its answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SMOKE = Path("results/smoke")
PUBLISHED = "results/published"


@dataclass
class Done:
    """Exit code and output of a call of Snakemake."""

    status: int
    text: str

    @property
    def plan(self) -> dict[str, int]:
        """Rule -> number of planned jobs, from the table of a dry run; empty where nothing is to be done."""
        table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total", self.text, re.MULTILINE | re.DOTALL)
        assert table or "Nothing to be done" in self.text, self.text
        return {line.split()[0]: int(line.split()[1]) for line in table.group(1).splitlines()} if table else {}


OFFLINE = {"HF_HUB_OFFLINE": "1"}


def snakemake(folder: Path, *arguments: str, timeout: float = 120, hub: Mapping[str, str] = OFFLINE) -> Done:
    """Call Snakemake in ``folder``, without colours; ``hub`` tells the Hugging Face client where its hub is."""
    environment = {**os.environ, **hub, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env={name: value for name, value in environment.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout)


def module(folder: Path, name: str, *arguments: str, timeout: float = 300) -> Done:
    """Run a module of the checkout in ``folder``, without a network for the Hugging Face hub."""
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout)


def smoke_plan(folder: Path, *arguments: str) -> dict[str, int]:
    """Return what a dry run of the smoke study plans; the dry run itself has to succeed."""
    done = snakemake(folder, *arguments, "-n", "--configfile", "config/smoke.yaml")
    assert done.status == 0, done.text
    return done.plan


def edit(file: Path, line: str = "# edited by a test\n") -> None:
    """Append a line, as a new file: the copy may share its bytes with the checkout."""
    text = file.read_text(encoding="utf-8")
    file.unlink()
    file.write_text(text + line, encoding="utf-8")
