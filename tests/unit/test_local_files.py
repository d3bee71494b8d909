"""Models and texts of this machine: what is wrong with them is told by ``check``, and before the first job of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.study.check_command import main as check
from ramp.study.load import make_plan
from ramp.study.preflight import preflight
from tests.tiny_models import random_llama

REPO = Path(__file__).resolve().parents[2]
USED = ("calibration", "search", "selection", "heldout")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    random_llama(folder / "model")
    (folder / "notes.txt").write_text("\n\n".join(f"Paragraph {i},\nin two lines." for i in range(400)) + "\n")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with copies of the model and of the text."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(**change: Any) -> dict[str, Any]:
    values = {"study": "mine", "source": "./model", "methods": ["rtn", "knapsack"], "tasks": {"names": []}}
    return values | {"halo": {"methods": []}, "texts": dict.fromkeys(USED, "./notes.txt")} | change


def told(values: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What ``check`` prints of faults; a run says the same before its first job."""
    Path("mine.yaml").write_text(yaml.safe_dump(values))
    status = cli.run(check, ["--configfile", "mine.yaml"])
    lines = [line for line in capsys.readouterr().err.splitlines() if " done in " not in line]
    assert status == (2 if lines else 0)
    return [line.removeprefix("error: ") for line in lines]


def start(values: dict[str, Any]) -> None:
    plan = make_plan(values, REPO, REPO / "config" / "assets.yaml")
    preflight(plan.study, plan.registry, jobs_run_here=True, gpu=lambda: True, refusal=lambda *_: None)


def cut(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_tokenizer(model: Path) -> None:
    for file in model.glob("tokenizer*"):
        file.unlink()


def another_width(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))


def test_a_model_and_texts_without_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(study(), capsys) == []
    start(study())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, "model.safetensors is no readable checkpoint"),
        (lambda model: (model / "model.safetensors").unlink(), "no model.safetensors in"),
        (without_tokenizer, "has no tokenizer: put its files there"),
        (another_width, "config.json and weights do not belong together"),
    ],
)
def test_a_model_that_a_stage_would_refuse(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], words: str
) -> None:
    change(folder / "model")
    (line,) = told(study(), capsys)
    assert words in line
    with pytest.raises(RampError, match=words):
        start(study())
    imported = folder / "results" / "models" / "model"
    imported.mkdir(parents=True)
    (imported / "asset.json").touch()
    start(study())  # its import has read it, and reads it again where a file of it changed


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": "gpt2"}', '{"hidden_size": 64}'])
def test_a_configuration_of_the_users_own_is_not_to_be_deleted(
    folder: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (folder / "model" / "config.json").write_text(content)
    (line,) = told(study(), capsys)
    assert "config.json" in line
    assert "delete" not in line
    assert "stage" not in line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("own.txt", b"", "holds no document"),
        ("own.txt", "\u00e9".encode("latin-1"), "is not UTF-8 (byte 0 is 0xe9)"),
        ("own.txt", b"one document", "has 1 document and is divided among"),
        ("own.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "line 2: each line should be a JSON object"),
        ("own.jsonl", b'{"text": "a"}\n[1]\n', "line 2: each line should be a JSON object"),
        ("own.jsonl", b'{"text": "\xe9"}\n', "is not UTF-8"),
        ("own.jsonl", b'{"text": "\\ud800"}\n', "own.jsonl, line 1"),
        ("own.jsonl.gz", b"plain", "own.jsonl.gz"),
        ("own.txt", "a\n\nb".encode("utf-16"), "iconv -f UTF-16"),
    ],
)
def test_a_text_that_a_stage_would_refuse(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    (folder / name).write_bytes(content)
    values = study(texts=dict.fromkeys(USED, f"./{name}"))
    (line,) = told(values, capsys)
    assert words in line
    assert "delete" not in line
    with pytest.raises(RampError) as caught:
        start(values)
    assert words in str(caught.value)


def test_a_path_source_with_nothing_at_it_is_told_with_all_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.txt").touch()
    source = {"type": "model", "licence": "none", "sources": [{"kind": "path", "path": str(folder / "gone")}]}
    values = study(source="gone", assets={"gone": source}, texts=dict.fromkeys(USED, "./own.txt"))
    lines = told(values, capsys)
    assert len(lines) == 2
    assert f"no file or folder at {folder / 'gone'}" in lines[0]
    assert "own.txt holds no document" in lines[1]


@pytest.mark.parametrize("assets", [["a"], "x", None])
def test_entries_that_are_none_are_told_beside_paths(
    folder: Path, capsys: pytest.CaptureFixture[str], assets: Any
) -> None:
    (line,) = told(study(assets=assets), capsys)
    assert line.startswith("assets: ")


@pytest.mark.parametrize("path", ["./" + "x" * 300, "./" + "x" * 120, "./a\nb"])
def test_a_path_that_no_file_can_have(folder: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    (folder / ("x" * 120)).mkdir()
    (line,) = told(study(source=path), capsys)
    assert line.startswith("source: ")
