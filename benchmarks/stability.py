"""Differences between machines: each stage run again with other instruction sets and threads, and what that changes.

    python -m benchmarks.stability --configfile config/smoke.yaml --model tiny-llama-s --out stability.csv

takes a finished study. Every stage reads the study's own files of the stages before it, so that a row shows what this
stage adds. Second moments and Cholesky factors, which no stage leaves, are stages here (``benchmarks.second_moments``,
``benchmarks.cholesky``).

What is varied stands in ``VARIATIONS``, and beside what each is held: a plain run in fast arithmetic, or one in
reproducible arithmetic, where the same bytes are expected. The table is one of the records (``ramp.records.schema``): a
row that is measured again takes the place of the old one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import safe_open

from ramp.bank.bank import Bank
from ramp.core import arithmetic, cli
from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.core.provenance import commit, hardware
from ramp.records.row_agreement import by_columns
from ramp.records.schema import STABILITY_ORDER, TABLES
from ramp.records.table import read_table, write_table
from ramp.rows.checkpoint import open_packed, packed_linears
from ramp.rows.meta_file import read_meta
from ramp.study.load import make_plan
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues

ROOT = Path(__file__).resolve().parent.parent

PLAIN_RUN, PLAIN_REPRODUCIBLE = "plain", "reproducible"
"""Baselines: one thread, float32, no limits, in fast and in reproducible arithmetic."""

Limits = dict[str, str]
REPRODUCIBLE = ["--arithmetic", "reproducible"]


@dataclass(frozen=True)
class Variation:
    """Settings that make this machine calculate as another one."""

    limits: Limits  # environment variables
    options: list[str]  # of the stage
    baseline: str = PLAIN_RUN  # the variation whose run it is held beside


VARIATIONS = {
    PLAIN_RUN: Variation({}, []),
    "two threads": Variation({}, ["--threads", "2"]),
    "torch without AVX2": Variation({"ATEN_CPU_CAPABILITY": "default"}, []),
    "MKL for any processor": Variation({"MKL_CBWR": "COMPATIBLE"}, []),
    "oneDNN without AVX": Variation({"ONEDNN_MAX_CPU_ISA": "SSE41"}, []),
    "bfloat16": Variation({}, ["--dtype", "bfloat16"]),
    PLAIN_REPRODUCIBLE: Variation({}, REPRODUCIBLE),
    "reproducible, two threads": Variation({}, [*REPRODUCIBLE, "--threads", "2"], PLAIN_REPRODUCIBLE),
    "reproducible, other limits": Variation(
        {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        [*REPRODUCIBLE, "--threads", "2"],
        PLAIN_REPRODUCIBLE,
    ),
}
"""Variations by name. ``PLAIN_REPRODUCIBLE`` beside the plain run shows what the setting itself changes."""

PLAIN = ["--arithmetic", "fast", "--threads", "1", "--dtype", "float32"]


@dataclass(frozen=True)
class Found:
    """Outcome of a stage: numbers that are compared, the KL where it has one, processor seconds."""

    numbers: Callable[[], Iterator[tuple[str, np.ndarray]]]  # reads them array by array, in the order of their names
    kl: float | None
    processor_s: float


class Stages:
    """The stages of one method on one model of a finished study."""

    def __init__(self, configfile: Path, model: str, method: str, budget: str) -> None:
        config = yaml.safe_load(configfile.read_text(encoding="utf-8"))
        plan = make_plan(config, ROOT, ROOT / config.get("registry", "config/assets.yaml"))
        self.files = RuleFiles(plan, ROOT, ".envs", str)
        self.values = RuleValues(self.files)
        self.study, self.plan = plan.study, plan
        self.model, self.method, self.budget = model, method, budget
        self.results = Path(plan.study.results).resolve()

    @cached_property
    def made(self) -> dict[str, Path]:
        """Files of the finished study, by stage."""
        bank = self.plan.bank_of(self.method)
        row = f"{self.method}-b{self.budget}-s0"
        return {
            "calibration": self.results / f"calibration/{self.model}.safetensors",
            "fold": self.results / f"folds/{self.model}/{self.plan.fold_of(self.method)}.safetensors",
            "bank": self.results / f"bank/{self.model}/{bank}",
            "sensitivity": self.results / f"sensitivity/{self.model}/{self.plan.sensitivities_of(self.method)}",
            "search": self.results / f"allocations/{self.model}/{self.method}/{self.budget}/0.json",
            "rows": self.results / f"quantized/{self.model}/{row}",
            "reference": self.results / f"reference/{self.model}/heldout.safetensors",
        }

    def command(self, stage: str, given: dict[str, Path], out: Path) -> list[str]:
        """Return the command of a stage: as its rule in workflow/rules."""
        study, text = self.study, self.results / "texts"
        base = ["--model-dir", str(self.results / "models" / self.model), "--out", str(out)]
        calibration = ["--text", str(text / "calibration.jsonl"), *self.values.calibration(self.model)]
        size, fold = ["--group-size", str(study.group_size)], ["--fold", str(given["fold"])]
        bank = [*fold, "--bank", str(given["bank"])]
        if stage == "calibration":
            return ["ramp.calibration", *base, *calibration]
        if stage == "fold":
            options = self.values.fold_options(str(self.plan.fold_of(self.method)))
            return ["ramp.calibration.fold_search", *base, *calibration, *options, *size]
        if stage == "second moments":
            return ["benchmarks.second_moments", *base, *calibration, *fold]
        if stage == "Cholesky":
            return ["benchmarks.cholesky", "--moments", str(given["second moments"]), "--out", str(out)]
        if stage == "bank":
            widths = ["--widths", *map(str, study.widths)]
            return ["ramp.bank", *base, *calibration, *fold, "--quantizer", "gptq", *widths, *size]
        if stage == "sensitivity":
            windows = self.values.of_model(self.model, study.sensitivity.windows, study.sensitivity.target_windows)
            words = ["--text", str(text / "search.jsonl"), "--windows", str(windows)]
            return ["ramp.sensitivity", *base, *bank, *words, "--length", str(study.sensitivity.length)]
        if stage == "search":
            words = ["--calibration", str(given["calibration"]), "--sensitivity", str(given["sensitivity"])]
            words += ["--search-text", str(text / "search.jsonl"), "--selection-text", str(text / "selection.jsonl")]
            words += ["--search-windows", str(study.search.windows), "--search-length", str(study.search.length)]
            words += ["--selection-windows", str(study.search.selection_windows or 0)]
            words += [*self.values.method(self.method), "--budget", self.budget, "--seed", "0"]
            words += ["--evals", str(study.limits.evals), "--study", study.study]
            words += ["--artifacts", str(out.with_suffix("")), "--state-dir", str(out.with_suffix(".state"))]
            return ["ramp.search", *base, *bank, *words]
        if stage == "rows":
            words = ["--method-file", self.values.reference(self.method), "--allocation", str(given["search"])]
            return ["ramp.rows.quantize", *base, *calibration, *fold, *words, *size, "--study", study.study]
        if stage == "reference":
            words = ["--text", f"heldout={text / 'heldout.jsonl'}", "--length", str(study.evaluation.length)]
            return ["ramp.evaluation", "reference", *base, *words, "--windows", str(study.limits.windows or 0)]
        words = ["--row-dir", str(given["rows"]), "--reference", f"heldout={given['reference']}"]
        return ["ramp.evaluation", "row", *base, *words, "--allocation", str(given["search"])]

    def run(self, stage: str, given: dict[str, Path], folder: Path, limits: Limits, options: Sequence[str]) -> Found:
        """Run a stage in a process of its own, and read what it gave; its file joins ``given``.

        A row is scored too, in plain arithmetic, so that its KL shows what its codes alone change.
        """
        suffix = ".safetensors" if stage in INSIDE else self.made.get(stage, Path("a.json")).suffix
        out = folder / (stage.replace(" ", "_") + suffix)
        inherited = arithmetic.as_it_is(os.environ)
        if "--arithmetic" not in options or "reproducible" not in options:
            options = [*PLAIN, *options]
        else:
            inherited |= arithmetic.ENVIRONMENT
            options = [*PLAIN[2:], *options]
        command = [sys.executable, "-m", *self.command(stage, given, out), *options]
        done = subprocess.run(command, cwd=ROOT, env={**inherited, "PYTHONPATH": str(ROOT), **limits},
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode:
            raise RampError(f"{' '.join(command[2:4])} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        given[stage] = out
        seconds = float(re.findall(r"with ([0-9.]+) s of processor time", done.stderr)[-1])
        kl = self.kl(stage, out)
        if stage == "rows":
            kl = self.run("evaluation", {**given, "reference": self.made["reference"]}, folder, {}, []).kl
        return Found(partial(self.numbers, stage, out), kl, seconds)

    @staticmethod
    def numbers(stage: str, out: Path) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the arrays of a stage's file by name, one at a time: the codes of a bank are too many for more."""
        if stage == "bank":
            bank = Bank(out)
            for linear in sorted(bank.linears, key=lambda each: each.name):
                for width in bank.widths:
                    yield f"{linear.name} {width}", bank.quantized(linear.name, width).codes.numpy()
        elif stage == "rows":
            handle, header = open_packed(out, read_meta(out))
            for name, quantized in sorted(packed_linears(handle, header).items()):
                yield name, quantized.codes.numpy()
        elif out.suffix == ".safetensors":
            with safe_open(out, "pt") as file:  # numpy knows no bfloat16
                for name in sorted(file.keys()):
                    tensor = file.get_tensor(name)
                    yield name, (tensor.float() if tensor.dtype.itemsize == 2 else tensor).numpy()
        else:
            yield from _numbers_of(stage, read_json(out, dict[str, Any]))

    @staticmethod
    def kl(stage: str, out: Path) -> float | None:
        """Return the KL of a stage that ends in one."""
        if stage not in ("search", "evaluation"):
            return None
        found = read_json(out, dict[str, Any])
        return float(found["kl_search"] if stage == "search" else found["texts"]["heldout"]["kl"])


def _numbers_of(stage: str, found: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of a stage that ends in JSON."""
    if stage == "sensitivity":
        for name, each in sorted(found["linears"].items()):
            yield name, np.array(list(each.values()))
    elif stage == "search":
        yield "bits", np.array([int(bits) for bits in found["bits"].values()])
    else:
        yield "kl", np.array([each["kl"] for each in found["texts"]["heldout"]["windows"]])


def difference(baseline: Found, other: Found) -> dict[str, float | None]:
    """Return what differs between two runs of a stage: the columns of that name. One array of each is in memory."""
    changed, count, largest = 0, 0, 0.0
    for (name, one), (same, two) in zip(baseline.numbers(), other.numbers(), strict=True):
        if name != same or one.shape != two.shape:
            raise RampError(f"two runs of one stage gave {name} {one.shape} and {same} {two.shape}: run it again")
        count += one.size
        unequal = one != two
        if unequal.any():
            changed += int(unequal.sum())
            size = np.abs(one.astype(np.float64))
            scale = np.maximum(size, size.mean())[unequal]  # of a value near 0: the mean of its array
            gap = np.abs(two[unequal].astype(np.float64) - one[unequal])
            largest = max(largest, float((gap / scale).max()))
    return {
        "codes_changed": changed / count,
        "largest_change": largest,
        "kl_change": other.kl / baseline.kl - 1 if baseline.kl and other.kl is not None else None,
    }


VARIED = [name for name in VARIATIONS if name != PLAIN_RUN]

INSIDE = ("second moments", "Cholesky")
"""Steps inside other stages: a finished study has no file of them, and each run reads its baseline's."""


def in_order(names: Sequence[str]) -> list[str]:
    """Return the variations to run: those that are asked for, and before them the baselines that they need."""
    needed = [VARIATIONS[name].baseline for name in names]
    return list(dict.fromkeys([PLAIN_RUN, *needed, *names]))


def measure(stages: Stages, names: Sequence[str], work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table: those of ``names``."""
    baselines: dict[str, dict[str, Found]] = {}
    inside: dict[str, Path] = {}  # the plain run's, which stand in for the study's own
    for varied in in_order(names):
        variation = VARIATIONS[varied]
        folder = work / varied.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        own = baselines.setdefault(varied, {})
        for stage in STABILITY_ORDER:
            given = {**stages.made, **inside}
            if stage == "evaluation":
                given["reference"] = folder / "reference.safetensors"
            own[stage] = found = stages.run(stage, given, folder, variation.limits, variation.options)
            if varied == PLAIN_RUN and stage in INSIDE:
                inside[stage] = given[stage]
            if varied == PLAIN_RUN or varied not in names:
                continue
            beside = baselines[variation.baseline][stage]
            yield {
                "model": stages.model, "inputs": "the study's", "stage": stage, "varied": varied,
                "baseline": variation.baseline, **difference(beside, found),
                "processor_s": found.processor_s, "processor_s_baseline": beside.processor_s,
                "commit": commit(), "hardware": hardware(),
            }  # fmt: skip


def put(table: Path, row: dict[str, Any]) -> None:
    """Write a row into the table, in the place of an older one of its name."""
    schema = TABLES["stability"]
    old = by_columns(read_table(table, schema), schema.unique) if table.is_file() else {}
    write_table(table, list((old | {tuple(row[name] for name in schema.unique): row}).values()), schema)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--configfile", type=Path, required=True, help="configuration of a finished study")
    parser.add_argument("--model", required=True, help="its source model")
    parser.add_argument("--method", default="ramp", help="the allocator that is followed")
    parser.add_argument("--budget", default="3.65", help="its budget")
    parser.add_argument("--varied", nargs="+", choices=VARIED, default=VARIED)
    parser.add_argument("--work", type=Path, help="folder of the varied files; a temporary one if it is not given")
    parser.add_argument("--out", type=Path, required=True, help="stability.csv; rows are put into what it holds")
    args = parser.parse_args(argv)
    stages = Stages(args.configfile, args.model, args.method, args.budget)
    work = (args.work or Path(tempfile.mkdtemp())).resolve()
    try:
        for row in measure(stages, args.varied, work):
            put(args.out, row)
            short = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
            print("  ".join(short), flush=True)
    finally:
        if args.work is None:
            shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
