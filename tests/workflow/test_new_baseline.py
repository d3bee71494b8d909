"""A new baseline is one file: added to a copy of the project, it arrives in records, table and figure."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from calls import SMOKE, snakemake

from paper.figures.pareto import pareto
from paper.study import Study
from ramp.records.table import read_table

pytestmark = pytest.mark.workflow

SETTINGS = ("--cores", "1", "--configfile", "config/smoke.yaml")
MODEL = "tiny-llama-s"
BROKEN = '"""Fails on purpose."""\nfrom ramp.methods.kinds import Package, Params\n\ndef quantize(job, params):\n'
BROKEN += '    raise RuntimeError("no kernel for this processor")\n\nMETHOD = Package(name="broken", title="Broken", '
BROKEN += 'source="here", quantize=quantize, params=Params, environment="mine", '
BROKEN += 'requirements=("torch==2.13.0", "numpy==2.4.6"))\n'


def main_table(study: Path) -> str:
    return (study / SMOKE / "paper" / "tables" / f"main_{MODEL}.md").read_text(encoding="utf-8")


def test_a_quantizer_arrives_in_table_and_figure(study: Path) -> None:
    shutil.copy(study / "baselines" / "rtn.py", study / "baselines" / "mine.py")
    methods = "methods=[rtn,awq_gptq,knapsack,random_search,ramp,mine]"
    figure = SMOKE / "paper" / "figures" / "pareto.png"
    before = (study / figure).read_bytes()
    assert "mine" not in main_table(study)
    targets = ("records", "tables", str(figure))
    done = snakemake(study, *targets, *SETTINGS, "--config", methods, timeout=300)
    assert done.status == 0, done.text
    assert (done.plan["quantize"], done.plan["evaluate"]) == (1, 1)
    assert not {"train", "bank", "search", "learn", "reference"} & set(done.plan)
    [line] = [line for line in main_table(study).splitlines() if line.startswith("| mine ")]
    [twin] = [line for line in main_table(study).splitlines() if line.startswith("| RTN ")]
    assert line.split("|")[2:] == twin.split("|")[2:]  # the same method under another name: the same numbers
    drawn = Study.read(study / SMOKE / "records")
    assert any("mine" in text.get_text() for axis in pareto(drawn).axes for text in axis.texts)
    assert (study / figure).read_bytes() != before


SKIPPED = (
    '"""Cannot run here."""\nfrom ramp.methods.kinds import Quantizer, RtnParams\n\nMETHOD = Quantizer(name="NAME", '
)
SKIPPED += 'title="Mine", source="here", fold="awq", quantizer="rtn", params=RtnParams, MORE)\n'
REASONS = {
    "mine": ('skip=lambda: "it needs a GPU"', "it needs a GPU"),
    "lacking": ('requirements=("no-such-thing==1",)', "it needs no-such-thing==1: pip install no-such-thing==1"),
}
"""Method -> what its file says of it, and the reason that a user reads."""


def test_a_method_that_cannot_run_here_is_a_row_with_its_reason(study: Path) -> None:
    for name, (more, _) in REASONS.items():
        (study / "baselines" / f"{name}.py").write_text(SKIPPED.replace("NAME", name).replace("MORE", more))
    methods = f"methods=[rtn,awq_gptq,knapsack,random_search,ramp,{','.join(REASONS)}]"
    done = snakemake(study, "records", "tables", *SETTINGS, "--config", methods, timeout=300)
    assert done.status == 0, done.text
    assert done.plan["skipped"] == len(REASONS)
    assert not {"quantize", "evaluate", "fold"} & set(done.plan)
    table = main_table(study)
    for name, (_, reason) in REASONS.items():
        assert f"method {name!r} cannot run here: {reason}" in done.text
        assert f"| {name} ‡ |" in table
        assert f"{name} ‡: {reason}." in table


def with_packages(study: Path) -> None:
    """Two packages: the template, and one that fails; this interpreter stands in for their environment."""
    shutil.copy(study / "baselines" / "_template_package.py", study / "baselines" / "mine.py")
    (study / "baselines" / "broken.py").write_text(BROKEN)
    record = {"ok": True, "reason": "", "python": sys.executable, "requirements": [], "freeze": [], "check": ""}
    (study / ".envs" / "mine").mkdir(parents=True)
    (study / ".envs" / "mine" / "environment.json").write_text(json.dumps(record))


def test_packages_arrive_in_records_and_published_ones_in_the_table(study: Path) -> None:
    with_packages(study)
    external = ("--config", "external=[mine,broken]")
    done = snakemake(study, "baselines_external", *SETTINGS, *external, timeout=300)
    assert done.status == 0, done.text
    records = read_table(study / SMOKE / "external" / "records.csv").set_index("method")
    assert list(records["kind"]) == ["package", "float", "package"]
    assert records.loc["broken", "produced"] == "not run"
    assert records.loc["broken", "note"] == "RuntimeError: no kernel for this processor"
    assert records.loc["mine", "ppl_heldout"] > 1
    weights = study / SMOKE / "quantized" / MODEL / "mine-b4-s0" / "model.safetensors"
    assert records.loc["mine", "bytes_file"] == weights.stat().st_size
    rtn = read_table(study / SMOKE / "records" / "records.csv").set_index(["model", "method"]).loc[(MODEL, "rtn")]
    assert abs(records.loc["mine", "kl_heldout"] / rtn["kl_heldout"] - 1) < 0.05  # it is RTN, by numpy

    # What is published stands in the table of a study that does not run it, and plans no model work.
    published = study / "results" / "published"
    shutil.rmtree(published, ignore_errors=True)
    shutil.copytree(study / SMOKE / "external", published)
    (published / "config.json").write_text("{}")
    done = snakemake(study, "tables", *SETTINGS, *external)
    assert done.status == 0, done.text
    table = main_table(study)
    assert "| mine § |" in table
    assert "| broken ‡§ |" in table
    assert "broken ‡§: RuntimeError: no kernel for this processor." in table
    assert "not run here" in table


def test_full_depth_runs_the_packages_and_quick_depth_does_not(study: Path) -> None:
    with_packages(study)
    external = ("--config", "external=[mine,broken]")
    assert "package" not in snakemake(study, "-n", "--configfile", "config/smoke.yaml", *external).plan
    full = snakemake(study, "-n", "--configfile", "config/smoke.yaml", *external, "depth=full")
    assert full.status == 0, full.text
    assert full.plan["package"] == full.plan["package_row"] == 2
    assert "environment" not in full.plan  # it is there


def test_one_file_is_checked_by_name(study: Path) -> None:
    done = snakemake(study, "baseline_check", *SETTINGS, "--config", "baseline=rtn")
    assert done.status == 0, done.text
    said = (study / SMOKE / "baseline_check" / "rtn.txt").read_text()
    assert "passed" in said
    assert "deselected" in said
    text = (study / "baselines" / "rtn.py").read_text().replace("Quantizer(\n", 'Quantizer(\n    name="other",\n')
    (study / "baselines" / "mine.py").write_text(text)
    done = snakemake(study, "baseline_check", *SETTINGS, "--config", "baseline=mine")
    assert done.status != 0
