"""Every stage that takes ``--device`` on a pretended GPU: no operation mixes devices, and the numbers stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ramp.models.token_windows import Document, write_documents
from tests.conftest import REPO

WORDS = {"calibration": "An otter crossed the weir. ", "search": "alpha beta ", "selection": "gamma ", "held": "eta "}
Line = Callable[..., list[str]]


def stages(folder: Path, model: Path, device: str) -> dict[str, list[str]]:
    """The command line of every stage by a name, in an order in which each finds its inputs."""
    out = folder / device.partition(":")[0]
    out.mkdir()
    text = {role: folder / f"{role}.jsonl" for role in WORDS}
    tokens = ["--text", text["calibration"], "--tokens", 192, "--length", 48]
    fold, bank, held = out / "awq.safetensors", out / "awq-gptq", out / "held.safetensors"
    row = out / "gptq-b4-s0"
    search = {
        "--bank": bank, "--fold": fold, "--calibration": out / "calibration.safetensors",
        "--sensitivity": out / "fisher.json", "--search-text": text["search"], "--selection-text": text["selection"],
        "--search-windows": 3, "--search-length": 32, "--budget": 4, "--evals": 5, "--state-dir": out / "state",
        "--method-file": REPO / "baselines" / "random_search.py",
    }  # fmt: skip
    searched = [part for pair in search.items() for part in pair]

    def line(module: str, *words: Any, first: str = "") -> list[str]:
        asked = [f"ramp.{module}", *words, "--device", device, "--model-dir", model]
        if module == "evaluation":  # its commands come first
            asked = [f"ramp.{module}", words[0], "--device", device, "--model-dir", model, *words[1:]]
        return [str(word) for word in ([first] if first else []) + asked]

    def kind(name: str, role: str = "calibration") -> list[str]:
        given = ["--kind", name, "--bank", bank, "--fold", fold, "--text", text[role], "--windows", 2, "--length", 32]
        return line("sensitivity", *given, "--out", out / f"{name}.json")

    quantize = [*tokens, "--bits", 4, "--group-size", 32]
    evaluate = ["row", "--row-dir", row, "--reference", f"held={held}", "--dtype", "bfloat16"]
    ablation = [*quantize[:-4], "--bits", 3, "--group-size", 32, "--reference", held, "--fold", out / "sq.safetensors"]
    return {
        "calibration": line("calibration", *tokens, "--out", out / "calibration.safetensors"),
        "fold awq": line("calibration.fold_search", *tokens, "--kind", "awq", "--group-size", 32, "--out", fold),
        "fold smoothquant": line("calibration.fold_search", *tokens, "--kind", "smoothquant", "--out", out / "sq.safetensors"),
        "fold none": line("calibration.fold_search", *tokens, "--kind", "none", "--out", out / "none.safetensors"),
        "bank": line("bank", *tokens, "--fold", fold, "--widths", 3, 4, 6, "--group-size", 32, "--out", bank),
        "fisher": kind("fisher", "search"),
        "error": kind("error"),
        "kl": kind("kl"),
        "kl_cheapest": kind("kl_cheapest"),
        "search": line("search", *searched, "--out", out / "found.json", "--artifacts", out / "artifacts"),
        "rtn": line("rows.quantize", *quantize, "--fold", out / "none.safetensors", "--method-file", "baselines/rtn.py", "--out", out / "rtn"),
        "gptq": line("rows.quantize", *quantize, "--fold", out / "none.safetensors", "--method-file", "baselines/gptq.py", "--out", row),
        "reference": line("evaluation", "reference", "--text", f"held={text['held']}", "--length", 48, "--windows", 3, "--dtype", "bfloat16", "--out", held),
        "evaluate": line("evaluation", *evaluate, "--out", out / "metrics.json"),
        "evaluate streamed": line("evaluation", *evaluate, "--out", out / "streamed.json", first="free=0"),
        "league": line("league", *searched, "--checkpoints", 5, "--heldout-text", text["held"], "--heldout-windows", 2, "--heldout-length", 32, "--out", out / "league.json"),
        "acceptance": line("league.acceptance", "--text", text["selection"], "--windows", 2, "--length", 32, "--group-size", 32, "--out", out / "accepted.json"),
        "fold ablation": line("league.fold_ablation", *ablation, "--method-file", "baselines/gptq.py", "--out", out / "ablation.json"),
        "fold ablation float": line("league.fold_ablation", *ablation, "--method-file", "float", "--out", out / "float.json"),
        "tight calibration": line("calibration", *tokens, "--out", out / "tight.safetensors", first="free=0"),
        "tight fisher": ["free=0", *kind("fisher", "search")],
        "tight search": line("search", *searched, "--out", out / "tight.json", "--artifacts", out / "artifacts", first="free=0"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("device")
    for role, words in WORDS.items():
        write_documents(made / f"{role}.jsonl", [Document(f"{role}-{i}", words * 40 + str(i)) for i in range(3)])
    return made


@pytest.fixture(scope="module")
def outcomes(folder: Path, tiny_qwen2_dir: Path) -> dict[str, str]:
    """What became of every stage on the pretended device, all in one process."""
    lines = stages(folder, tiny_qwen2_dir, "pgpu:0")
    commands, results = folder / "commands.json", folder / "results.json"
    commands.write_text(json.dumps(list(lines.values())))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.pretended_gpu", str(commands), str(results)]
    subprocess.run(words, cwd=REPO, env=environment, check=True, capture_output=True, text=True)
    return dict(zip(lines, json.loads(results.read_text()), strict=True))


def test_no_stage_mixes_devices(outcomes: dict[str, str]) -> None:
    failed = {name: end for name, end in outcomes.items() if end}
    assert not failed, "\n\n".join(f"{name}:\n{end}" for name, end in failed.items())


def test_every_stage_that_asks_for_a_device_is_here(folder: Path) -> None:
    """A stage that packages or lm-eval carry out hands the device on."""
    tried = {words[0] if words[0].startswith("ramp.") else words[1] for words in stages(folder, folder, "none").values()}
    own = {"ramp.evaluation.lm_eval_tasks", "ramp.packages.prepare_job"}
    asking = set()
    for path in sorted((REPO / "ramp").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "pick_device(" in text and "\ndef main(" in text:
            name = ".".join(path.relative_to(REPO).with_suffix("").parts)
            asking.add(name.removesuffix(".__main__"))
    assert asking - tried == own
    assert len(asking) > 9


def test_what_does_not_fit_gives_the_same_numbers(folder: Path, outcomes: dict[str, str]) -> None:
    out = folder / "pgpu"
    whole, streamed = (json.loads((out / name).read_text())["texts"] for name in ("metrics.json", "streamed.json"))
    assert whole == streamed
    assert (out / "tight.safetensors").read_bytes() == (out / "calibration.safetensors").read_bytes()
    assert json.loads((out / "tight.json").read_text())["bits"] == json.loads((out / "found.json").read_text())["bits"]


def test_the_device_refuses_what_a_gpu_refuses() -> None:
    from tests.pretended_gpu import NAME, DeviceError

    code = (
        "import torch; from tests.pretended_gpu import pretended\n"
        "with pretended():\n"
        "    one, other = torch.ones(3, device='pgpu:0'), torch.ones(3)\n"
        "    assert (one + one.cpu().to('pgpu:0')).device.type == 'pgpu' and float(one.sum()) == 3\n"
        "    assert float((one * torch.tensor(2.0)).sum()) == 6\n"
        "    other.copy_(one); assert other.device.type == 'cpu'\n"
        "    wrong = [lambda: one + other, lambda: one @ other, lambda: other[one.long()], lambda: one.numpy(),\n"
        "             lambda: torch.multinomial(one, 1, generator=torch.Generator())]\n"
        "    for call in wrong:\n"
        "        try: call()\n"
        "        except Exception as error: assert type(error).__name__ == 'DeviceError', error\n"
        "        else: raise SystemExit('not refused')\n"
    )
    assert issubclass(DeviceError, RuntimeError)
    assert NAME == "pgpu"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
