"""A chain of stages on a random two-layer model, each as its command line: what accidents happen to."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from ramp.core import cli
from ramp.core.atomic_files import sha256_file, write_json
from ramp.models.asset_file import SINGLE, file_checksums
from ramp.quantizers.ggml import BLOCKS  # noqa: F401 - numpy and torch are loaded before anything is forked
from tests.tiny_models import random_llama

ROOT = Path(__file__).resolve().parents[2]
WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau".split()


@dataclass(frozen=True)
class Stage:
    """One command line of the chain; ``R`` is the folder of the study."""

    name: str
    module: str
    options: str  # with R/ before every path of the study
    outputs: tuple[str, ...]  # final files and folders below R

    def arguments(self, folder: Path) -> list[str]:
        """Return the words behind ``python -m MODULE``."""
        words = self.options.replace("R/", f"{folder}/").replace("BASELINES", str(ROOT / "baselines"))
        return [*words.split(), "--threads", "1"]


MODEL = "--model-dir R/models/tiny --device cpu"
BANKED = f"{MODEL} --bank R/bank/tiny --fold R/folds/awq.safetensors"
SEARCH = "--search-windows 2 --search-length 32 --selection-windows 2 --evals 8 --budget 4"
TEXTS = "--search-text R/texts/search.jsonl --selection-text R/texts/selection.jsonl"
CALIBRATED = "--text R/texts/calibration.jsonl --tokens 256 --length 64"

STAGES = (
    Stage(
        "fetch",
        "ramp.assets.fetch",
        "--registry R/assets.yaml --asset corpus --out R/assets/corpus",
        ("assets/corpus",),
    ),
    Stage(
        "text_roles", "ramp.assets.text_roles", "--registry R/assets.yaml --assets R/assets --out R/texts", ("texts",)
    ),
    Stage(
        "calibration",
        "ramp.calibration",
        f"{MODEL} {CALIBRATED} --out R/calibration/tiny.safetensors",
        ("calibration/tiny.safetensors",),
    ),
    Stage(
        "fold",
        "ramp.calibration.fold_search",
        f"{MODEL} {CALIBRATED} --kind awq --group-size 32 --out R/folds/awq.safetensors",
        ("folds/awq.safetensors",),
    ),
    Stage(
        "bank",
        "ramp.bank",
        f"{MODEL} {CALIBRATED} --fold R/folds/awq.safetensors --quantizer gptq --widths 3 4 6"
        " --group-size 32 --out R/bank/tiny",
        ("bank/tiny",),
    ),
    Stage(
        "sensitivity",
        "ramp.sensitivity",
        f"{BANKED} --kind fisher --text R/texts/search.jsonl --windows 2 --length 32 --out R/sensitivity/tiny.json",
        ("sensitivity/tiny.json",),
    ),
    Stage(
        "search",
        "ramp.search",
        f"{BANKED} --calibration R/calibration/tiny.safetensors --sensitivity R/sensitivity/tiny.json"
        f" {TEXTS} {SEARCH} --method-file BASELINES/role_depth.py --study x --out R/allocations/tiny.json"
        " --artifacts R/search/tiny --state-dir R/.state",
        ("allocations/tiny.json", "search/tiny"),
    ),
    Stage(
        "transfer",
        "ramp.search.transfer",
        f"{BANKED} --policy R/search/tiny --source tiny --budget 4 --group-size 32"
        " --calibration R/calibration/tiny.safetensors --study x --out R/allocations/transfer.json",
        ("allocations/transfer.json",),
    ),
    Stage(
        "quantize",
        "ramp.rows.quantize",
        f"{MODEL} {CALIBRATED} --fold R/folds/awq.safetensors --method-file"
        " BASELINES/role_depth.py --allocation R/allocations/tiny.json --group-size 32 --study x --out R/quantized/row",
        ("quantized/row",),
    ),
    Stage(
        "float",
        "ramp.rows.quantize",
        f"{MODEL} --method-file float --study x --out R/quantized/float",
        ("quantized/float",),
    ),
    Stage(
        "tune",
        "ramp.rows.tune",
        f"{MODEL} --row-dir R/quantized/row --text R/texts/calibration.jsonl R/texts/train.jsonl"
        " --steps 12 --batch 2 --length 32 --state-dir R/.state/tuning --out R/quantized/tuned",
        ("quantized/tuned",),
    ),
    Stage(
        "reference",
        "ramp.evaluation",
        f"reference {MODEL} --text heldout=R/texts/heldout.jsonl --length 64 --windows 3"
        " --out R/reference/heldout.safetensors",
        ("reference/heldout.safetensors",),
    ),
    Stage(
        "evaluate",
        "ramp.evaluation",
        f"row {MODEL} --row-dir R/quantized/row --reference heldout=R/reference/heldout.safetensors"
        " --allocation R/allocations/tiny.json --out R/metrics/row.json",
        ("metrics/row.json",),
    ),
    Stage(
        "export",
        "ramp.export.halo",
        f"export {MODEL} --fold R/folds/awq.safetensors --allocation R/allocations/tiny.json"
        " --calibration R/calibration/tiny.safetensors --out R/halo/row.gguf",
        ("halo/row.gguf", "halo/row.plan.json"),
    ),
    Stage(
        "acceptance",
        "ramp.league.acceptance",
        f"{MODEL} --text R/texts/selection.jsonl --windows 2 --length 32"
        " --group-size 32 --increase -1 --out R/league/accepted.json",
        ("league/accepted.json",),
    ),
    Stage(
        "enumerate",
        "ramp.optimum",
        f"{BANKED} --calibration R/calibration/tiny.safetensors --text R/texts/search.jsonl"
        " --windows 1 --length 16 --units halves-2 --widths 3 4 --state-dir R/.state --out R/optimum/halves.json",
        ("optimum/halves.json", "optimum/halves.safetensors"),
    ),
    Stage(
        "collect",
        "ramp.records.collect",
        "--metrics R/metrics/row.json --rows R/quantized/row/meta.json --models R/models/tiny"
        " --allocations R/allocations/tiny.json --out R/records",
        ("records/records.csv", "records/windows.csv"),
    ),
)
"""Every stage up to the records, in the order in which data passes."""

WITHOUT_THREADS = ("collect",)
"""Stages that take none of the common options."""


def prepare(folder: Path) -> None:
    """Write what the chain starts from: a model, and a text with its registry."""
    (folder / "models").mkdir(parents=True)
    random_llama(folder / "models" / "tiny")
    weights = folder / "models" / "tiny" / SINGLE
    record = {"name": "tiny", "kind": "trained", "path": ".", "sha256": sha256_file(weights), "steps": 1, "note": ""}
    record["files_sha256"] = file_checksums(weights.parent, [weights])
    record |= {"released_bytes": 1, "released_format": "float32", "linears_released_bytes": 1}
    write_json(folder / "models" / "tiny" / "asset.json", record, sealed=True)
    lines = (" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(30)) + f" {i}" for i in range(80))
    (folder / "corpus.utf8").write_text("\n".join(lines), encoding="utf-8")
    roles = {"calibration": 0.2, "train": 0.2, "search": 0.2, "selection": 0.2, "heldout": 0.2}
    text = {"format": "lines", "prefix": "doc", "roles": roles}
    source = {"kind": "path", "path": str(folder / "corpus.utf8"), "sha256": "resolve"}
    asset = {"type": "text", "licence": "none", "text": text, "sources": [source]}
    (folder / "assets.yaml").write_text(yaml.safe_dump({"assets": {"corpus": asset}}), encoding="utf-8")


def call(stage: Stage, folder: Path) -> int:
    """Run a stage in this process; return its exit status. The arithmetic is this process's own."""
    arguments = stage.arguments(folder)
    if stage.name in WITHOUT_THREADS:
        arguments = arguments[:-2]
    os.chdir(ROOT)
    place = stage.module if _is_module(stage.module) else f"{stage.module}.__main__"
    return cli.run(importlib.import_module(place).main, arguments)


def _is_module(name: str) -> bool:
    return (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()


def load() -> None:
    """Import every stage, so that forked copies start at once."""
    for stage in STAGES:
        importlib.import_module(stage.module if _is_module(stage.module) else f"{stage.module}.__main__")
    import transformers  # noqa: F401


def make(folder: Path) -> Path:
    """Run the whole chain in this process."""
    prepare(folder)
    for stage in STAGES:
        if status := call(stage, folder):
            raise RuntimeError(f"stage {stage.name} of the chain ended with status {status}")
    return folder
