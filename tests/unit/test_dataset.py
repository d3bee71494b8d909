"""The records as a data set of the hub: ``datasets`` reads them offline, and every column is explained."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from paper.dataset import dataset, main
from ramp.archive.merge import merge
from ramp.core import cli
from ramp.core.atomic_files import write_text
from ramp.records.schema import TABLES
from ramp.records.table import read_all
from tests.synthetic_records import write_study

LOAD = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
folder, cache = sys.argv[1:]
found = {name: load_dataset(folder, name, split="train", cache_dir=cache) for name in get_dataset_config_names(folder)}
first = load_dataset(folder, split="train", cache_dir=cache)
about = {name: [len(rows), sorted(rows.column_names)] for name, rows in found.items()}
print(json.dumps([about, len(first), found["records"]["kl_heldout"][:]]))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def folder(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    assert cli.run(main, [str(study), "--out", str(out)]) == 0
    return out


def test_datasets_reads_what_the_records_hold(study: Path, folder: Path, tmp_path: Path) -> None:
    """In a process of its own: ``datasets`` decides on the hub and its cache when it is imported."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", LOAD, str(folder), str(tmp_path / "cache")]
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    about, first, kl = json.loads(done.stdout.splitlines()[-1])
    tables = read_all(study / "records")
    assert about == {name: [len(frame), sorted(frame.columns)] for name, frame in tables.items()}
    assert first == len(tables["records"])
    expected = [None if value != value else value for value in tables["records"]["kl_heldout"]]
    assert kl == expected


def test_the_card_explains_every_column(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S).group(1))
    assert metadata["license"] == "apache-2.0"
    files = {config["config_name"]: config["data_files"] for config in metadata["configs"]}
    assert [config["config_name"] for config in metadata["configs"] if config.get("default")] == ["records"]
    for name, file in files.items():
        assert (folder / file).is_file()
        for column in TABLES[name].columns:
            assert f"| `{column.name}` | {column.dtype} |" in text
    schema = pyarrow.parquet.read_schema(folder / files["records"])
    assert schema.field("bytes_file").metadata[b"unit"] == b"bytes"
    assert all(field.metadata[b"meaning"] for field in schema)


def test_merged_rows_are_a_data_set_too(study: Path, tmp_path: Path) -> None:
    merge(study, tmp_path / "merged", "Ada")
    counts = dataset(tmp_path / "merged", tmp_path / "out")
    assert set(counts) == {"merged", "merged_windows"}
    assert "Every row names who ran it" in (tmp_path / "out" / "README.md").read_text()


def test_a_second_study_takes_the_place_of_the_first_and_nothing_else_is_overwritten(
    study: Path, tmp_path: Path
) -> None:
    dataset(study, tmp_path / "out")
    merge(study, tmp_path / "merged", "Ada")
    dataset(tmp_path / "merged", tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out" / "data").iterdir()} == {"merged", "merged_windows"}
    write_text(tmp_path / "other" / "thesis.tex", "x")
    assert cli.run(main, [str(study), "--out", str(tmp_path / "other")]) == 2
    assert cli.run(main, [str(tmp_path / "other"), "--out", str(tmp_path / "new")]) == 2
    write_text(tmp_path / "project" / "data" / "thesis.txt", "x")
    assert cli.run(main, [str(study), "--out", str(tmp_path / "project")]) == 2
    assert (tmp_path / "project" / "data" / "thesis.txt").is_file()
