"""Clones, working directories and results in folders with blanks, quotes, braces, substitutions and other letters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import snakemake
from conftest import copy_project

ODD = "a b'c\"d {e} é$(touch x)"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A clone in such a folder."""
    return copy_project(tmp_path / ODD)


def test_a_clone_in_an_odd_folder_plans_and_runs(odd: Path) -> None:
    smoke = ("--configfile", "config/smoke.yaml")
    done = snakemake(odd, "-n", *smoke, timeout=400)
    assert done.status == 0, done.text
    assert done.plan["learn"] > 0
    done = snakemake(odd, "--cores", "1", *smoke, "--", "results/smoke/config.json", timeout=400)
    assert done.status == 0, done.text
    assert not list(odd.rglob("x"))


def test_results_registry_and_working_directory_are_odd_too(odd: Path, tmp_path: Path) -> None:
    """Settings write what they were given; the fetch runs a stage of the clone on a registry elsewhere."""
    elsewhere, own, results = tmp_path / "else {w} 'ü", tmp_path / "own 'ü $(touch x)", "my 'results é"
    elsewhere.mkdir()
    own.mkdir()
    (own / "text.txt").write_text("a text\n")
    text = {"format": "lines", "prefix": "own"}
    entry = {"type": "text", "licence": "own", "text": text, "sources": [{"kind": "path", "path": "text.txt"}]}
    known = (odd / "config" / "assets.yaml").read_text()
    (own / "assets.yaml").write_text(f"{known}\n  own: {json.dumps(entry)}\n")
    wanted = [f"{results}/config.json", f"{results}/assets/own/asset.json"]
    done = snakemake(
        elsewhere, "-s", str(odd / "Snakefile"), "--configfile", str(odd / "config" / "smoke.yaml"), "--cores", "1",
        "--config", f"results={results}", f"registry={own}/assets.yaml", "--", *wanted,
        timeout=400,
    )  # fmt: skip
    assert done.status == 0, done.text
    assert json.loads((elsewhere / wanted[0]).read_text())["results"] == results
    assert json.loads((elsewhere / wanted[1]).read_text())["kind"] == "path"
    assert not list(tmp_path.rglob("x"))
