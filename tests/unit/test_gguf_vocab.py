"""Tokenizers in GGUF files: the names that llama.cpp has for them, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ramp.export.write import export
from ramp.gguf.names import GgufError
from ramp.gguf.vocabulary import pre_tokenizer_name

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
    plain = {**BYTE_LEVEL, "use_regex": False}
    with pytest.raises(GgufError, match=r"Split \+ ByteLevel .* not one that llama.cpp has a name for"):
        pre_tokenizer_name({"type": "Sequence", "pretokenizers": [split, plain]})
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama_dir, folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"] = {"type": "WordLevel", "vocab": spec["model"]["vocab"], "unk_token": "<s>"}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(GgufError, match="tokenizers of type 'WordLevel' are not exported"):
        export(folder, tmp_path / "float.gguf")
