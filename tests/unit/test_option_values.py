"""Values of options and files that no stage can use end in one sentence before the work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ramp.archive.verify import main as verify
from ramp.bank.__main__ import main as bank
from ramp.core import cli
from ramp.core.atomic_files import read_json, read_text, require_file, write_text
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile, OutputFolder
from ramp.evaluation.__main__ import main as evaluate
from ramp.export.halo_card import main as card
from ramp.league.__main__ import main as league
from ramp.models.architecture import ModelError
from ramp.models.config_limits import check_limits
from ramp.models.device import pick_device
from ramp.models.token_windows import Document, TextError, token_windows, write_documents
from ramp.optimum.run import main as optimum
from ramp.search.__main__ import main as search
from tests.refusals import refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--budget nan", "--budget nan is no finite number"),
        ("--budget 1e400", "--budget inf is no finite number"),
        ("--budget 4 --seed -1", "--seed -1 is below 0"),
        ("--budget 4 --threads 99999999", f"--threads 99999999: at most {cli.MOST_THREADS}"),
    ],
)
def test_numbers_that_no_stage_can_use(words: str, said: str) -> None:
    refused(RampError, {said: partial(search, words.split())})


@pytest.mark.parametrize("words", ["--evals 0", "--search-windows 0", "--search-length two"])
def test_counts_of_a_search_are_above_0(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        search(["--budget", "4", *words.split()])
    assert end.value.code == 2
    assert "no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", [league, optimum])
def test_checkpoints_are_above_0(command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(["--checkpoints", "0", "1"])
    assert "no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (bank, "--widths 3 x", "--widths: 'x' is not a width: give bits (4)"),
        (bank, "--tokens many", "--tokens: 'many' is no whole number"),
        (search, "--budget much", "--budget: 'much' is no number"),
        (search, "--bogus", "required: --budget"),
        (evaluate, "rows", "invalid choice: 'rows'"),
        (evaluate, "row", "required: --row-dir"),
    ],
)
def test_a_fault_of_the_command_line_is_a_sentence_and_not_the_usage(
    command: Any, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command(words.split())
    assert end.value.code == 2
    fault, more = capsys.readouterr().err.splitlines()
    assert said in fault
    assert more.endswith("--help lists the options)")


def test_a_group_size_may_be_minus_one_and_lists_are_read_too() -> None:
    parser = cli.Parser()
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--bits", type=float, nargs="+", default=[])
    assert parser.parse_args(["--group-size", "-1", "--bits", "3", "-0.5"]).bits == [3, -0.5]
    refused(RampError, {"--bits inf": lambda: parser.parse_args(["--bits", "3", "inf"])})


def test_outputs_that_cannot_be_written_are_told_when_the_options_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = cli.Parser()
    parser.add_argument("--file", type=OutputFile)
    parser.add_argument("--folder", type=OutputFolder)
    parser.add_argument("--model-dir", type=Path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    before = [(path, path.stat().st_mtime_ns) for path in (tmp_path, *tmp_path.rglob("*"))]

    def read(option: str, path: str | Path) -> Path:
        found: Path = vars(parser.parse_args([f"--{option}={path}"]))[option]
        return found

    calls = {
        "folder is a folder, where a file": partial(read, "file", tmp_path / "folder"),
        "file is a file, where a folder": partial(read, "folder", tmp_path / "file"),
        "x cannot be written (Not a directory)": partial(read, "file", tmp_path / "file" / "a" / "x"),
        "/proc/self/a/x cannot be written": partial(read, "folder", "/proc/self/a/x"),
        "/proc/self cannot be written": partial(read, "folder", "/proc/self"),
        "File name too long": partial(read, "file", tmp_path / ("x" * 230)),
        f"write {tmp_path}/x": partial(read, "file", "~/x"),
        f"write {tmp_path}/y": partial(read, "folder", "$PLACE/y"),
        f"write {tmp_path}/z": partial(read, "model-dir", "~/z"),
    }
    refused(RampError, calls)
    for option, name in (("file", "new/deep/x"), ("file", "file"), ("folder", "new/deep"), ("folder", "folder")):
        assert read(option, tmp_path / name) == tmp_path / name
    assert before == [(path, path.stat().st_mtime_ns) for path in (tmp_path, *tmp_path.rglob("*"))]


def test_json_that_no_file_can_hold_is_no_value_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.parser("", "--params")
    assert parser.parse_args(["--params", json.dumps({"a": 1.5})]).params == {"a": 1.5}
    for text in ('{"a": NaN}', '{"a": 1e999}', "[1]", "{"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--params", text])
        assert "is not a JSON object" in capsys.readouterr().err


def test_devices_and_paths_that_cannot_be_used(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = tmp_path / "pipe"
    calls: dict[str, Any] = {
        "'xyz' is no device": lambda: pick_device("xyz"),
        "'meta' is no device": lambda: pick_device("meta"),
        "names no file or folder to write": lambda: write_text(".", "x"),
        "there is no folder": lambda: card(["--plan", "p", "--metrics", "m", "--model-dir", "/nope", "--out", "o"]),
        "write NAME=FILE": lambda: evaluate(["reference", "--model-dir", ".", "--text", "x=", "--out", "o"]),
    }
    refused(RampError, calls)
    readers = (
        partial(require_file, pipe, "text"),
        partial(read_text, pipe),
        partial(read_json, pipe, dict[str, Any]),
        partial(verify, [str(pipe)]),
    )
    for read in readers:
        refused(RampError, {"a pipe or a device": read})


def test_values_of_other_types_in_a_model_folder(tmp_path: Path) -> None:
    refused(ModelError, {"sliding_window": lambda: check_limits({"sliding_window": "x"}, "config.json")})
    write_documents(tmp_path / "text.jsonl", [Document("a", "words " * 9)])

    def tokenizer(*given: Any, **options: Any) -> Any:
        raise TypeError("'>' not supported between instances of 'int' and 'str'")

    cut = partial(token_windows, tokenizer, tmp_path / "text.jsonl", length=2, count=1)
    refused(TextError, {"tokenizer_config.json": cut})
