"""Tokenizers in GGUF files: the names that llama.cpp has for them, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ramp.export.write import export
from ramp.gguf.names import GgufError
from ramp.gguf.vocabulary import pre_tokenizer_name
from tests.refusals import refused
from tests.tiny_models import altered

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (None, None),
        ({"type": "Metaspace", "replacement": "▁"}, None),
        (BYTE_LEVEL, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}, "smollm"),
    ],
)
def test_pre_tokenizer_names(spec: dict[str, Any] | None, name: str | None) -> None:
    assert pre_tokenizer_name(spec) == name


def test_unknown_tokenizers_end_in_one_sentence(tiny_llama_dir: Path, tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
    unknown = {"type": "Sequence", "pretokenizers": [split, {**BYTE_LEVEL, "use_regex": False}]}
    folder = altered(tiny_llama_dir, tmp_path / "model")
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"] = {"type": "WordLevel", "vocab": spec["model"]["vocab"], "unk_token": "<s>"}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    calls = {
        "Split + ByteLevel": lambda: pre_tokenizer_name(unknown),
        "'WordLevel'": lambda: export(folder, tmp_path / "float.gguf"),
    }
    refused(GgufError, calls)
