"""Where two machines part: each stage run again under the limits of another machine, and what that changes.

    python -m benchmarks.stability --configfile config/smoke.yaml --model tiny-llama-s --out stability.csv

takes a finished study. Every stage reads the study's own files of the stages before it, so that a row shows what this
stage adds; with ``--chain`` it reads the varied files of those stages, as another machine would. What is varied
stands in ``VARIATIONS``; all but ``reproducible`` run in fast arithmetic, beside a plain run of it.

Columns of stability.csv: model, inputs, stage, varied; codes_changed: share of codes, or of values where a stage gives
none, that differ from the plain run; largest_change: largest relative difference of one; kl_change: relative change of
the KL, of stages that end in one; processor_s and processor_s_plain.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from ramp.bank.bank import Bank
from ramp.core import arithmetic, cli
from ramp.core.errors import RampError
from ramp.core.files import read_json
from ramp.rows.checkpoint import open_packed, packed_linears
from ramp.rows.meta_file import read_meta
from ramp.study.load import make_plan
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues

ROOT = Path(__file__).resolve().parent.parent

Limits = dict[str, str]
VARIATIONS: dict[str, tuple[Limits, list[str]]] = {
    "two threads": ({}, ["--threads", "2"]),
    "torch without AVX2": ({"ATEN_CPU_CAPABILITY": "default"}, []),
    "MKL for any processor": ({"MKL_CBWR": "COMPATIBLE"}, []),
    "bfloat16": ({}, ["--dtype", "bfloat16"]),
    "reproducible": ({}, ["--arithmetic", "reproducible"]),
    "reproducible, other limits": (
        {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        ["--arithmetic", "reproducible", "--threads", "2"],
    ),
}
"""Environment variables and options that make this machine calculate as another one, by name."""

PLAIN = ["--arithmetic", "fast", "--threads", "1", "--dtype", "float32"]


@dataclass(frozen=True)
class Found:
    """What a stage gave: numbers that are compared, the KL where it has one, processor seconds."""

    numbers: dict[str, np.ndarray]
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
        out = folder / (stage + self.made.get(stage, Path("a.json")).suffix)
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
        numbers, kl = self.read(stage, out)
        if stage == "rows":
            kl = self.run("evaluation", {**given, "reference": self.made["reference"]}, folder, {}, []).kl
        return Found(numbers, kl, seconds)

    def read(self, stage: str, out: Path) -> tuple[dict[str, np.ndarray], float | None]:
        """Return the numbers of a stage's file, and its KL."""
        if stage == "bank":
            bank = Bank(out)
            pairs = [(linear.name, width) for linear in bank.linears for width in bank.widths]
            return {f"{n} {w}": bank.quantized(n, w).codes.numpy() for n, w in pairs}, None
        if stage == "rows":
            handle, header = open_packed(out, read_meta(out))
            return {name: q.codes.numpy() for name, q in packed_linears(handle, header).items()}, None
        if out.suffix == ".safetensors":
            return load_file(out), None
        found = read_json(out, dict[str, Any])
        if stage == "sensitivity":
            return {name: np.array(list(each.values())) for name, each in found["linears"].items()}, None
        if stage == "search":
            return {"bits": np.array([int(bits) for bits in found["bits"].values()])}, found["kl_search"]
        windows = found["texts"]["heldout"]["windows"]
        return {"kl": np.array([each["kl"] for each in windows])}, found["texts"]["heldout"]["kl"]


def difference(plain: Found, other: Found) -> dict[str, float | None]:
    """Return what differs between two runs of a stage: the columns of that name."""
    pairs = [(plain.numbers[name].ravel(), other.numbers[name].ravel()) for name in sorted(plain.numbers)]
    one, two = (np.concatenate([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    scale = np.maximum(np.abs(one), np.abs(one).mean())
    return {
        "codes_changed": float((one != two).mean()),
        "largest_change": float((np.abs(two - one) / scale).max()),
        "kl_change": other.kl / plain.kl - 1 if plain.kl and other.kl is not None else None,
    }


ORDER = ("calibration", "fold", "bank", "sensitivity", "search", "rows", "reference", "evaluation")


def measure(stages: Stages, names: Sequence[str], work: Path, chain: bool) -> Iterator[dict[str, object]]:
    """Yield the rows of the table."""
    plain: dict[str, Found] = {}
    for varied in ["plain", *names]:
        limits, options = VARIATIONS.get(varied, ({}, []))
        passed: dict[str, Path] = {}
        for stage in ORDER:
            folder = work / varied.replace(" ", "_")
            folder.mkdir(parents=True, exist_ok=True)
            given = {**stages.made, **passed} if chain else dict(stages.made)
            if stage == "evaluation" and not chain:
                given["reference"] = folder / "reference.safetensors"
            found = stages.run(stage, given, folder, limits, options)
            passed[stage] = given[stage]
            if varied == "plain":
                plain[stage] = found
                continue
            yield {
                "model": stages.model, "inputs": "varied" if chain else "the study's", "stage": stage, "varied": varied,
                **difference(plain[stage], found),
                "processor_s": found.processor_s, "processor_s_plain": plain[stage].processor_s,
            }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--configfile", type=Path, required=True, help="configuration of a finished study")
    parser.add_argument("--model", required=True, help="its source model")
    parser.add_argument("--method", default="ramp", help="the allocator that is followed")
    parser.add_argument("--budget", default="3.65", help="its budget")
    parser.add_argument("--varied", nargs="+", choices=list(VARIATIONS), default=list(VARIATIONS))
    parser.add_argument("--chain", action="store_true", help="each stage reads the varied files of those before it")
    parser.add_argument("--work", type=Path, help="folder of the varied files; a temporary one if it is not given")
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows are added to what it holds")
    args = parser.parse_args(argv)
    stages = Stages(args.configfile, args.model, args.method, args.budget)
    work = (args.work or Path(tempfile.mkdtemp())).resolve()
    try:
        for row in measure(stages, args.varied, work, args.chain):
            new = not args.out.is_file()
            with open(args.out, "a", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            short = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
            print("  ".join(short), flush=True)
    finally:
        if args.work is None:
            shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
