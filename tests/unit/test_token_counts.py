"""Texts are counted before any long job: with the tokenizer alone, against all that the study asks of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ramp.assets import count_tokens
from ramp.assets.count_tokens import Need, require_tokens
from ramp.core.errors import RampError
from ramp.gguf_format.names import GgufError
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, TextError, write_documents
from ramp.study.text_needs import counted_models, exported_models, text_needs
from tests.plans import plan_of
from tests.sealed import read_json


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Texts of 1,000 and 300 letters, which are as many tokens, and an empty one."""
    write_documents(tmp_path / "texts" / "calibration.jsonl", [Document("a", "x" * 499), Document("b", "y" * 499)])
    write_documents(tmp_path / "texts" / "search.jsonl", [Document("c", "z" * 300)])
    write_documents(tmp_path / "texts" / "empty.jsonl", [])
    return tmp_path / "texts"


@pytest.fixture
def tokenizer_alone(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """A model folder without its weights."""
    return shutil.copytree(tiny_llama_dir, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


def test_counts_need_a_tokenizer_and_no_weights(tokenizer_alone: Path, texts: Path, tmp_path: Path) -> None:
    needs = [Need("calibration", 10, 100), Need("calibration", 2, 50), Need("search", 3, 100)]
    found = require_tokens(ModelFolder(tokenizer_alone), texts, needs)
    assert found == {"calibration": {"tokens": 1000, "wanted": 1000}, "search": {"tokens": 300, "wanted": 300}}
    argv = ["--model-dir", str(tokenizer_alone), "--texts", str(texts), "--out", str(tmp_path / "counts.json")]
    count_tokens.main([*argv, "--need", *map(str, needs)])
    assert read_json(tmp_path / "counts.json") == found


def test_a_tokenizer_of_another_model_is_told_before_any_long_job(tokenizer_alone: Path, texts: Path) -> None:
    config = json.loads((tokenizer_alone / "config.json").read_text())
    (tokenizer_alone / "config.json").write_text(json.dumps(config | {"vocab_size": 60}))
    with pytest.raises(TextError, match="tokenizer and model do not belong together"):
        require_tokens(ModelFolder(tokenizer_alone), texts, [Need("search", 1, 9)])


def test_all_texts_that_are_too_short_are_named(tokenizer_alone: Path, texts: Path) -> None:
    model = ModelFolder(tokenizer_alone)
    with pytest.raises(TextError, match=r"'calibration' has 1,000 tokens.*'search' has 300 tokens"):
        require_tokens(model, texts, [Need("calibration", 11, 100), Need("search", 4, 100)])
    with pytest.raises(TextError, match="'empty' has 0 tokens"):
        require_tokens(model, texts, [Need("empty", 1, 9)])
    context = int(model.config.max_position_embeddings)
    require_tokens(model, texts, [Need("search", 1, 100 * context)])  # windows are no longer than the context
    with pytest.raises(TextError, match="search"):
        require_tokens(model, texts, [Need("search", 300 // context + 1, 100 * context)])


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"hidden_act": "gelu"}, "SiLU"),
        ("config.json", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, "'Lowercase'"),
    ],
)
def test_a_model_that_an_export_would_refuse_hours_later_is_refused_with_the_counts(
    tokenizer_alone: Path, texts: Path, tmp_path: Path, file: str, change: dict[str, Any], words: str
) -> None:
    argv = ["--model-dir", str(tokenizer_alone), "--texts", str(texts), "--out", str(tmp_path / "counts.json")]
    argv += ["--need", "search:1x100"]
    count_tokens.main([*argv, "--export"])
    (tokenizer_alone / file).write_text(json.dumps(read_json(tokenizer_alone / file) | change))
    count_tokens.main(argv)  # a study that exports nothing
    with pytest.raises(GgufError, match=words):
        count_tokens.main([*argv, "--export"])


def test_models_that_a_study_exports() -> None:
    assert exported_models(plan_of("paper.yaml")) == ["llama-2-7b"]
    assert exported_models(plan_of("paper.yaml", halo={"methods": []}, depth="quick")) == []
    embedded = plan_of("config.yaml")
    assert exported_models(embedded) == sorted({embedded.study.source, *embedded.gguf.models})


def test_what_a_study_asks_of_its_texts() -> None:
    plan = plan_of("paper.yaml")
    assert counted_models(plan, "llama-2-7b") == sorted(plan.models)
    assert {"calibration:128x2048", "search:16x512", "selection:16x512"} <= set(text_needs(plan, "llama-2-7b"))
    assert "wikitext2:1x2048" in text_needs(plan, "llama-3-8b")  # all of it: at least one window
    embedded = plan_of("config.yaml")
    assert counted_models(embedded, "smollm2-135m.draw1") == ["smollm2-135m"]
    assert (
        counted_models(plan_of("smoke.yaml"), "tiny-llama-s") == []
    )  # models that are trained on the study's own text
    with pytest.raises(RampError, match="weather"):
        str(plan_of("paper.yaml", texts={"calibration": "weather"}).text_assets)
