"""The replicas of the paper's models are what they stand for: whole checkpoints, tokenizers of the originals' kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replica_tokenizers import llama_3_special_tokens
from tests.replicas import REPLICAS, corpus, make_replica
from tests.sealed import read_json


@pytest.mark.parametrize("name", ["llama-2-7b", "mistral-7b-v0.1"])
def test_sentencepiece_and_the_fast_tokenizer_beside_it_agree(name: str, tmp_path: Path) -> None:
    import sentencepiece
    from transformers import AutoTokenizer

    folder = make_replica(name, tmp_path / name)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    text = corpus()[:3000] + " \u00fc\u4e2d\U0001f600"  # the last are no pieces: bytes
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == [1, *pieces.encode(text)]
    assert any(pieces.is_byte(number) for number in pieces.encode(text))


def test_llama_3_has_special_tokens_and_no_sentencepiece(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_replica("llama-3-8b", tmp_path / "llama-3-8b")
    assert not (folder / "tokenizer.model").exists()
    config = read_json(folder / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = llama_3_special_tokens()
    assert len(set(names)) == 256
    first, *_, last = tokenizer("text<|eot_id|>")["input_ids"]
    assert (first, last) == (config["bos_token_id"], config["bos_token_id"] + names.index("<|eot_id|>"))
    assert config["vocab_size"] == len(tokenizer)


@pytest.mark.parametrize("name", REPLICAS)
def test_shards_hold_every_weight_in_the_originals_dtype(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = make_replica(name, tmp_path / name)
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(found.values())
    assert model.dtype == getattr(torch, REPLICAS[name].dtype)
    assert len(list(folder.glob("*.safetensors"))) == REPLICAS[name].shards
    index = read_json(folder / "model.safetensors.index.json")["weight_map"]
    buffers = {key for key in index if key.endswith("rotary_emb.inv_freq")}
    assert set(index) - buffers == set(model.state_dict())
    assert len(buffers) == (len(model.model.layers) if name.startswith("llama-2") else 0)
