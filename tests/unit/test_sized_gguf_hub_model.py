"""MODEL of ``python -m ramp gguf`` from the hub: which files are fetched, its name, and what needs no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
from safetensors.torch import load_file, save_file

from ramp.assets.fetched_files import FetchError
from ramp.assets.registry import load_registry
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.models.folder import INDEX, ModelFolder
from ramp.sized_gguf import inputs, job
from ramp.sized_gguf.card import base_model
from ramp.sized_gguf.hub_model import hub_model
from ramp.sized_gguf.options import add_arguments
from tests.ggml_models import NARROW
from tests.hub import Hub
from tests.refusals import refused
from tests.tiny_models import random_llama
from tests.unit.test_sized_gguf_command import words

REPO = Path(__file__).resolve().parents[2]

TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"


@dataclass
class Far:
    """A hub with one model in shards, among files that nobody reads."""

    hub: Hub
    source: Path
    commit: str
    patch: pytest.MonkeyPatch

    def offline(self) -> None:
        self.patch.setattr(constants, "HF_HUB_OFFLINE", True)


def shard(folder: Path) -> None:
    """Split a checkpoint into two shards with an index, one of them of another name than most."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "weights-b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, folder / file, {"format": "pt"})
    where = {name: file for file, part in parts.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    source = random_llama(tmp_path / "source", **NARROW)
    shard(source)
    (source / "chat_template.jinja").write_text(TEMPLATE)
    (source / "consolidated.safetensors").write_bytes(b"weights once more")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.safetensors").write_bytes(b"weights of another kind")
    with Hub() as hub:
        found = hub.add("some/model-7b", source)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield Far(hub, source, found.commit, monkeypatch)


def test_weights_are_those_of_the_index_and_the_chat_template_comes_along(far: Far) -> None:
    folder = hub_model("some/model-7b", "")
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"model-00001-of-00002.safetensors", "weights-b.safetensors", "chat_template.jinja"} <= fetched
    assert not fetched & {"consolidated.safetensors", "onnx/model.safetensors"}
    assert far.hub.asked("consolidated.safetensors") == []
    model = ModelFolder(folder)
    model.check()
    assert model.tokenizer().chat_template == TEMPLATE


def test_what_is_in_the_cache_needs_no_network(far: Far) -> None:
    folder = hub_model("some/model-7b", "")
    far.hub.requests.clear()
    assert hub_model("some/model-7b", far.commit) == folder
    assert not far.hub.requests
    far.offline()
    assert hub_model("some/model-7b", "") == folder
    (folder / "weights-b.safetensors").unlink()  # as a first download that was interrupted
    refused(
        FetchError,
        {
            "offline": lambda: hub_model("some/model-7b", ""),
            "is not in the cache": lambda: hub_model("some/model-7b", far.commit),
        },
    )


def test_a_repository_without_weights_that_can_be_read(far: Far, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(far.source, pickled, ignore=shutil.ignore_patterns("*.safetensors", INDEX))
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    far.hub.add("some/pickled", pickled)
    calls = {
        "some/pickled has no model.safetensors": lambda: hub_model("some/pickled", ""),
        "'main' is no commit": lambda: hub_model("some/model-7b", "main"),
    }
    refused(FetchError, calls)


def test_model_is_named_after_its_repository(far: Far, tmp_path: Path) -> None:
    """Not after the folder of a snapshot, which is a commit: name in the file, in the plan, of the work folder."""
    for seed, name in enumerate(("calibration.txt", "held.txt")):
        (tmp_path / name).write_text(words(seed, 2000))
    parser = cli.parser("")
    add_arguments(parser)
    options = [
        *("--size", "120KB", "--tokens", "256", "--length", "64", "--windows", "1", "--window-length", "32"),
        *("--heldout-windows", "2", "--out", str(tmp_path / "out" / "small.gguf")),
        *("--text", str(tmp_path / "calibration.txt"), "--heldout-text", str(tmp_path / "held.txt")),
    ]
    made = job.open_job(parser.parse_args([f"some/model-7b@{far.commit}", *options]))
    assert made.model.name == "model-7b"
    assert made.work.name.startswith("model-7b-")
    folder = inputs.hub_model("some/model-7b", far.commit)
    assert base_model(str(folder)) == ("some/model-7b", far.commit)
    again = job.open_job(parser.parse_args([str(folder), *options]))
    assert (again.model.name, again.work) == (made.model.name, made.work)


def test_names_near_a_model_and_models_that_a_run_trains_are_told(tmp_path: Path) -> None:
    registry = load_registry(REPO / "config" / "assets.yaml")

    def find(name: str) -> Callable[[], Path]:
        return lambda: inputs.find_model(name, registry, tmp_path)

    refused(RampError, {"did you mean 'smollm2-135m'": find("smollm2-135"), "RESULTS/models/": find("tiny-llama-s")})
