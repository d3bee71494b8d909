"""Training of the tiny family, with a preset small enough for seconds."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ramp.assets import train_tiny as training
from ramp.assets.train_tiny import (
    PRESETS,
    build_model,
    learning_rate,
    make_model,
    token_stream,
    train_tokenizer,
)
from ramp.core.errors import RampError
from ramp.models.architecture import list_linears
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.models.token_windows import Document, write_documents
from tests.model_folders import load_float, load_tokenizer, read_config
from tests.refusals import refused
from tests.sealed import read_json

ANIMALS = ["cat", "dog", "horse", "raven", "salmon", "beetle", "otter", "lizard"]
VERBS = ["sees", "follows", "ignores", "remembers", "finds"]
SMALL = {"layers": 1, "hidden": 32, "heads": 2, "head_dim": 16, "intermediate": 32, "vocab": 320}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with a grammar that a small model learns in a few steps."""
    generator = torch.Generator().manual_seed(0)

    def pick(options: list[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    sentences = [f"The {pick(ANIMALS)} {pick(VERBS)} the {pick(ANIMALS)}." for _ in range(1000)]
    path = tmp_path_factory.mktemp("text") / "train.jsonl"
    write_documents(path, [Document(f"d-{i}", " ".join(sentences[i : i + 100])) for i in range(0, 1000, 100)])
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets' families at a size for tests."""
    for name, preset in PRESETS.items():
        kv_heads = 1 if preset.kv_heads < preset.heads else 2
        tiny = replace(preset, **SMALL, kv_heads=kv_heads, context=64, short_window=32, step_tokens=256)
        monkeypatch.setitem(training.PRESETS, name, tiny)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_fit_both_grids(name: str) -> None:
    """Rows that K-quants take (multiples of 256), at least 28 linears, context as promised."""
    preset = PRESETS[name]
    assert preset.hidden % 256 == preset.intermediate % 256 == preset.heads * preset.head_dim % 256 == 0
    config = build_model(replace(preset, vocab=64), end_id=0, seed=0).config
    assert len(list_linears(config)) >= 28
    assert config.max_position_embeddings == 512
    if preset.family == "mistral":
        assert config.sliding_window >= config.max_position_embeddings
        assert config.num_key_value_heads < config.num_attention_heads


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["tiny-llama-s", "tiny-mistral"])
def test_a_trained_folder_loads_and_has_learned(tmp_path: Path, text: Path, name: str) -> None:
    out = tmp_path / name
    record = make_model(name, text, steps=120, seed=0, out_dir=out)
    assert record == read_json(out / "asset.json")
    assert record["final_loss"] < 0.5 * math.log(SMALL["vocab"])
    assert record["train_tokens"] == 120 * 256
    config = read_config(out)
    ModelFolder(out).check()
    assert ("lm_head.weight" in CheckpointReader(out).names()) == (not config.tie_word_embeddings)
    tokenizer = load_tokenizer(out)
    ids = torch.tensor(tokenizer("The raven sees the otter. The cat follows the salmon.")["input_ids"])[None]
    with torch.no_grad():
        loss = load_float(out)(input_ids=ids, labels=ids).loss
    assert float(loss) < 0.6 * math.log(SMALL["vocab"])


@pytest.mark.usefixtures("small")
def test_same_seed_same_bytes(tmp_path: Path, text: Path) -> None:
    def weights(folder: str, seed: int) -> bytes:
        make_model("tiny-llama-s", text, steps=3, seed=seed, out_dir=tmp_path / folder)
        return (tmp_path / folder / "model.safetensors").read_bytes()

    state = torch.random.get_rng_state()
    first = weights("a", 0)
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's generator is left alone
    torch.rand(5)
    assert weights("b", 0) == first
    assert weights("c", 1) != first
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_tokenizer_is_of_gpt2s_kind_and_loses_nothing(text: Path, tmp_path: Path) -> None:
    from ramp.models.token_windows import read_documents

    documents = read_documents(text)
    tokenizer = train_tokenizer(documents, 320)
    tokenizer.save_pretrained(tmp_path)
    saved = read_json(tmp_path / "tokenizer.json")
    assert saved["model"]["type"] == "BPE"
    assert len(saved["model"]["vocab"]) == 320
    assert saved["model"]["merges"]
    assert saved["pre_tokenizer"].items() >= {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}.items()
    odd = "Ünïcode, 日本, \t tabs\n\n and 1234."
    assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd
    stream = token_stream(tokenizer, documents)
    assert int((stream == tokenizer.eos_token_id).sum()) == len(documents)


def test_learning_rate_rises_then_falls_to_a_tenth() -> None:
    preset = PRESETS["tiny-llama-s"]
    rates = [learning_rate(step, 200, preset) for step in range(200)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(preset.learning_rate)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 * preset.learning_rate, rel=0.02)


def test_errors_are_one_sentence(tmp_path: Path, text: Path) -> None:
    short = tmp_path / "short.jsonl"
    write_documents(short, [Document("a", "hardly a word")])
    make = partial(make_model, "tiny-llama-s", seed=0, out_dir=tmp_path / "m")
    calls = {
        "0 steps": lambda: make(text, steps=0),
        f"{short} is too short": lambda: make(short, steps=1),
        "no text": lambda: make(tmp_path / "none.jsonl", steps=1),
    }
    refused(RampError, calls)
    assert not (tmp_path / "m").exists()
