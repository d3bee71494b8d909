"""Every stage that takes ``--device`` on a pretended GPU: no operation mixes devices, and the numbers stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ramp.models.token_windows import Document, write_documents
from tests.conftest import REPO
from tests.pretended_gpu import DeviceError
from tests.sealed import read_json

WORDS = {
    "calibration": "An otter crossed the weir. ",
    "train": "delta epsilon ",
    "search": "alpha beta ",
    "selection": "gamma ",
    "heldout": "eta ",
}


PACKAGE = """
from ramp.methods.kinds import Package, Params

def quantize(job, params):
    raise RuntimeError(f"this package was given {job.device}")

METHOD = Package(name="mine", title="Mine", source="here", quantize=quantize, params=Params,
                 requirements=("numpy==2.4.6",), bits=(3, 4))
"""
"""A package that says where it was asked to work."""

REFUSED = "what the device refuses"
"""Tried in the same process, before the first stage."""

QUESTION = {"goal": "cross the weir", "sol1": "swim", "sol2": "alpha beta gamma", "label": 0}


def words_of(options: dict[str, Any]) -> list[Any]:
    return [part for pair in options.items() for part in pair]


class Stages:
    """Command lines of the stages, on a model and the texts of a folder."""

    def __init__(self, folder: Path, model: Path, device: str) -> None:
        self.folder, self.out = folder, folder / "made"
        self.common = ["--device", device, "--model-dir", model, "--threads", 1]
        self.tokens = ["--text", folder / "calibration.jsonl", "--tokens", 96, "--length", 48]
        self.lines: dict[str, list[str]] = {}

    def add(self, name: str, module: str, *words: Any, to: str, free: int | None = None) -> None:
        """Add a line by its name; ``free``: bytes of memory that the device says it has."""
        command = words[:1] if module == "evaluation" else ()
        line = [f"ramp.{module}", *command, *self.common, *words[len(command) :], "--out", self.out / to]
        self.lines[name] = [str(word) for word in ([] if free is None else [f"free={free}"]) + line]

    def of_a_bank(self) -> None:
        """Add all stages up to the allocation."""
        out, method = self.out, REPO / "baselines"
        stats, fold, bank, tight = "calibration.safetensors", out / "awq.safetensors", out / "awq-gptq", {"free": 0}
        grid = ["--group-size", 32]
        self.add("calibration", "calibration", *self.tokens, to=stats)
        self.add("tight calibration", "calibration", *self.tokens, to="tight.safetensors", **tight)
        fold_search = ["calibration.fold_search", *self.tokens, *grid, "--bits", 3, "--kind"]
        for kind in ("awq", "smoothquant", "none"):
            self.add(f"fold {kind}", *fold_search, kind, to=f"{kind}.safetensors")
        self.add("bank", "bank", *self.tokens, *grid, "--fold", fold, "--widths", 3, 4, to="awq-gptq")
        asked = ["--bank", bank, "--fold", fold, "--windows", 2, "--length", 32]
        for kind, role in (("fisher", "search"), ("error", "calibration"), ("kl_cheapest", "calibration")):
            text = ["--kind", kind, "--text", self.folder / f"{role}.jsonl"]
            self.add(kind, "sensitivity", *text, *asked, to=f"{kind}.json")
            if kind == "fisher":
                self.add("tight fisher", "sensitivity", *text, *asked, to="tight-fisher.json", **tight)
        options = {
            "--bank": bank, "--fold": fold, "--calibration": out / stats, "--sensitivity": out / "fisher.json",
            "--search-text": self.folder / "search.jsonl", "--selection-text": self.folder / "selection.jsonl",
            "--search-windows": 3, "--search-length": 32, "--budget": 3.5, "--evals": 4, "--state-dir": out / "state",
            "--method-file": method / "random_search.py", "--artifacts": out / "artifacts",
        }  # fmt: skip
        self.add("search", "search", *words_of(options), to="found.json")
        self.add("tight search", "search", *words_of(options), to="tight-found.json", **tight)
        league = {name: value for name, value in options.items() if name != "--artifacts"}
        league |= {"--checkpoints": 4, "--heldout-text": self.folder / "heldout.jsonl"}
        league |= {"--heldout-windows": 2, "--heldout-length": 32}
        self.add("league", "league", *words_of(league), to="league.json")
        text = ["--text", self.folder / "selection.jsonl", "--windows", 2, "--length", 32]
        self.add("acceptance", "league.acceptance", *text, *grid, to="accepted.json")

    def of_a_row(self) -> None:
        """Add quantizing and evaluating; on a device without free memory the row is streamed."""
        plain, method = self.out / "none.safetensors", {name: f"baselines/{name}.py" for name in ("rtn", "gptq")}
        held, reference = f"heldout={self.folder / 'heldout.jsonl'}", self.out / "heldout.safetensors"
        grid = [*self.tokens, "--group-size", 32, "--bits", 3]
        for name, file in method.items():
            self.add(name, "rows.quantize", *grid, "--fold", plain, "--method-file", file, to=name)
        shape = ["--length", 48, "--windows", 2, "--dtype", "bfloat16"]
        self.add("reference", "evaluation", "reference", "--text", held, *shape, to="heldout.safetensors")
        row = ["row", "--row-dir", self.out / "gptq", "--reference", f"heldout={reference}", "--dtype", "bfloat16"]
        self.add("evaluate", "evaluation", *row, to="metrics.json")
        self.add("evaluate streamed", "evaluation", *row, to="streamed.json", free=0)
        noise = ["--reference", reference, "--variation", "again", "--dtype", "bfloat16"]
        self.add("noise", "evaluation.noise_floor", *noise, to="noise.json")
        texts = [self.folder / f"{role}.jsonl" for role in ("calibration", "train")]
        steps = ["--steps", 1, "--batch", 1, "--length", 16, "--state-dir", self.out / "tuning"]
        self.add("tune", "rows.tune", "--row-dir", self.out / "gptq", "--text", *texts, *steps, to="tuned")
        tasks = ["--tasks-dir", self.folder / "tasks", "--tasks", "piqa"]
        self.add("tasks", "evaluation.lm_eval_tasks", "--row-dir", self.out / "gptq", *tasks, to="tasks.json")
        own = ["--method-file", self.folder / "mine.py", "--environment", self.folder / "environment.json"]
        self.add("package", "packages.prepare_job", *grid, *own, to="package")
        for name in ("float", method["rtn"]):
            ablation = ["--fold", self.out / "smoothquant.safetensors", "--reference", reference, "--method-file", name]
            self.add(f"ablation {name}", "league.fold_ablation", *grid, *ablation, to=f"{Path(name).stem}.json")


def stages(folder: Path, model: Path, device: str) -> dict[str, list[str]]:
    """The command line of every stage by a name, in an order in which each finds its inputs."""
    found = Stages(folder, model, device)
    found.of_a_bank()
    found.of_a_row()
    return found.lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("device")
    (made / "mine.py").write_text(PACKAGE)
    (made / "environment.json").write_text(json.dumps({"ok": True, "python": sys.executable}))
    (made / "tasks").mkdir()
    rows = [json.dumps(QUESTION | {"label": i % 2}) for i in range(3)]
    (made / "tasks" / "piqa.jsonl").write_text("\n".join(rows) + "\n")
    for role, words in WORDS.items():
        write_documents(made / f"{role}.jsonl", [Document(f"{role}-{i}", words * 40 + str(i)) for i in range(3)])
    return made


@pytest.fixture(scope="module")
def outcomes(folder: Path, tiny_qwen2_dir: Path) -> dict[str, str]:
    """Return what became of every stage on the pretended device, all in one process."""
    (folder / "made").mkdir()
    lines = {REFUSED: ["tests.refused_operations"], **stages(folder, tiny_qwen2_dir, "pgpu:0")}
    commands, results = folder / "commands.json", folder / "results.json"
    commands.write_text(json.dumps(list(lines.values())))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.pretended_gpu", str(commands), str(results)]
    subprocess.run(words, cwd=REPO, env=environment, check=True, capture_output=True, text=True)
    return dict(zip(lines, read_json(results), strict=True))


def test_no_stage_mixes_devices(outcomes: dict[str, str]) -> None:
    failed = {name: end for name, end in outcomes.items() if end}
    assert not failed, "\n\n".join(f"{name}:\n{end}" for name, end in failed.items())


def test_every_stage_that_asks_for_a_device_is_here(folder: Path) -> None:
    tried = {
        words[0] if words[0].startswith("ramp.") else words[1] for words in stages(folder, folder, "none").values()
    }
    asking = set()
    for path in sorted((REPO / "ramp").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "pick_device(" in text and "\ndef main(" in text:
            name = ".".join(path.relative_to(REPO).with_suffix("").parts)
            asking.add(name.removesuffix(".__main__"))
    assert asking <= tried
    assert len(asking) > 9


def test_tasks_and_packages_work_where_they_are_asked_to(folder: Path, outcomes: dict[str, str]) -> None:
    assert not outcomes["tasks"]
    assert len(read_json(folder / "made" / "tasks.json")["tasks"]["piqa"]["items"]) == 3
    assert "was given pgpu:0" in read_json(folder / "made" / "package" / "outcome.json")["reason"]


def test_what_does_not_fit_gives_the_same_numbers(folder: Path, outcomes: dict[str, str]) -> None:
    made = folder / "made"

    def read(name: str, *keys: str) -> list[Any]:
        record = read_json(made / name)
        return [record[key] for key in keys]

    assert read("metrics.json", "texts") == read("streamed.json", "texts")
    assert read("found.json", "bits", "kl_search") == read("tight-found.json", "bits", "kl_search")
    assert read("fisher.json", "linears") == read("tight-fisher.json", "linears")
    assert (made / "tight.safetensors").read_bytes() == (made / "calibration.safetensors").read_bytes()


def test_the_device_refuses_what_a_gpu_refuses(outcomes: dict[str, str]) -> None:
    assert not outcomes[REFUSED]
    assert issubclass(DeviceError, RuntimeError)
