"""Rotary embeddings and tokenizers: what llama.cpp computes as transformers does, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ramp.export.llamacpp import LlamaCpp, window_nll
from ramp.export.llamacpp_check import check_llama, transformers_nll
from ramp.export.write import export
from ramp.gguf_format.names import GgufError, check_exportable, rope_factors, rope_type
from ramp.gguf_format.reader import GgufFile
from ramp.models.architecture import ModelError
from ramp.models.folder import ModelFolder
from tests.conftest import save_random_model
from tests.ggml_models import random_qwen2
from tests.model_folders import load_gguf_float, read_config
from tests.refusals import refused
from tests.sealed import read_json
from tests.tiny_models import altered, random_llama, windows_of

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
SHAPE = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256}


def sharpened(folder: Path) -> Path:
    """Larger queries and keys: with those of a random model a position hardly matters."""
    state = load_file(folder / "model.safetensors")
    for name in state:
        if "q_proj.weight" in name or "k_proj.weight" in name:
            state[name] *= 2
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


WIDER = {"head_dim": 96}
"""Heads of another width than hidden size / heads."""

CASES: dict[str, tuple[Any, dict[str, Any], dict[str, int]]] = {
    "llama3": (random_llama, LLAMA3, {}),
    "llama3-wider": (random_llama, LLAMA3, WIDER),
    "linear": (random_llama, LINEAR, {}),
    "yarn": (random_llama, YARN, WIDER),
    "qwen2-linear": (random_qwen2, LINEAR, {}),
    "qwen2-yarn": (random_qwen2, YARN, {}),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_perplexity_beyond_the_original_context(tmp_path: Path, name: str) -> None:
    pytest.importorskip("cyllama")
    make, rope, more = CASES[name]
    folder = sharpened(make(tmp_path / "model", rope_parameters=rope, **SHAPE | more))
    windows, file = windows_of(folder, count=2, length=250, seed=3), tmp_path / "float.gguf"

    def perplexities(model_dir: Path) -> list[float]:
        export(model_dir, file)
        llama = LlamaCpp(file, context=256, threads=1)
        theirs = np.stack([window_nll(llama, window.tolist()) for window in windows])
        llama.close()
        return [np.exp(theirs.mean()), np.exp(transformers_nll(ModelFolder(folder).load_float(), windows).mean())]

    theirs, ours = perplexities(folder)
    assert theirs == pytest.approx(ours, rel=1e-3)
    plain = altered(
        folder, tmp_path / "plain", rope_parameters={"rope_type": "default", "rope_theta": rope["rope_theta"]}
    )
    assert perplexities(plain)[0] != pytest.approx(ours, rel=5e-3)  # the scaling has an effect here


def test_factors_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    folder = random_llama(tmp_path / "model", rope_parameters=LLAMA3, **SHAPE)
    config = read_config(folder)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = LLAMA3["rope_theta"] ** -(torch.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(rope_factors(config), (plain / scaled).numpy(), rtol=1e-5)
    export(folder, tmp_path / "float.gguf")
    stored = GgufFile(tmp_path / "float.gguf").values("rope_freqs.weight")
    np.testing.assert_array_equal(stored, rope_factors(config))
    loaded = load_gguf_float(folder, tmp_path / "float.gguf")
    assert torch.equal(loaded.lm_head.weight, ModelFolder(folder).load_float().lm_head.weight)


def test_rotary_embeddings_that_are_refused(tmp_path: Path) -> None:
    folders = iter(range(9))

    def refusal(make: Any, rope: dict[str, Any]) -> Any:
        folder = make(tmp_path / str(next(folders)), rope_parameters=rope, **SHAPE)
        return lambda: check_exportable(read_config(folder))

    calls = {
        "attention_factor 1.2": refusal(random_llama, YARN | {"attention_factor": 1.2}),
        "beta_fast 16": refusal(random_llama, YARN | {"beta_fast": 16.0}),
        "'dynamic'": refusal(random_llama, {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
        "for qwen2": refusal(random_qwen2, LLAMA3),
    }
    refused(GgufError, calls)
    told = YARN | {"finetuned": True, "attention_factor": 0.1 * np.log(YARN["factor"]) + 1}  # as if not told
    assert rope_type(read_config(random_llama(tmp_path / "told", rope_parameters=told, **SHAPE))) == "yarn"


def test_tokenizers_that_are_refused(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """llama.cpp would make other tokens of a text."""
    spec = read_json(tiny_llama_dir / "tokenizer.json")
    prefixed = spec | {"pre_tokenizer": spec["pre_tokenizer"] | {"add_prefix_space": True}}
    suffixed = spec | {"model": spec["model"] | {"end_of_word_suffix": "</w>"}}
    changed = {
        "'Lowercase'": spec | {"normalizer": {"type": "Lowercase"}},
        "'Strip'": spec
        | {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": True, "strip_right": True}],
            }
        },
        "add_prefix_space": prefixed,
        "end_of_word_suffix": suffixed,
    }

    def refusal(number: int, content: dict[str, Any]) -> Any:
        folder = altered(tiny_llama_dir, tmp_path / str(number))
        (folder / "tokenizer.json").write_text(json.dumps(content))
        return lambda: export(folder, tmp_path / "float.gguf")

    refused(GgufError, {word: refusal(number, content) for number, (word, content) in enumerate(changed.items())})
    nfc = altered(tiny_llama_dir, tmp_path / "nfc")
    (nfc / "tokenizer.json").write_text(json.dumps(spec | {"normalizer": {"type": "NFC"}}))
    export(nfc, tmp_path / "float.gguf")


def test_sentencepiece_tokens_agree_on_first_blanks_and_names_of_special_tokens(tmp_path: Path) -> None:
    """transformers puts no blank before a first one, sentencepiece and llama.cpp do; they read ``</s>`` as text."""
    pytest.importorskip("cyllama")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["\u2581", *"abcdefgh"]
    vocabulary = ["<unk>", "<s>", "</s>", *bytes_, *letters, "\u2581a", "ab", "\u2581ab"]
    ids = {token: index for index, token in enumerate(vocabulary)}
    merges = [("\u2581", "a"), ("a", "b"), ("\u2581a", "b")]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    folder = tmp_path / "model"
    fast.save_pretrained(folder)
    shape = SHAPE | {"intermediate_size": 128, "num_hidden_layers": 1}
    save_random_model(folder, LlamaConfig(vocab_size=len(ids), bos_token_id=1, eos_token_id=2, **shape))
    export(folder, tmp_path / "float.gguf")
    windows = windows_of(folder, count=1, length=32, seed=0)
    texts = ["ab cab", " ab cab", "   abc  d", "ab</s> a", "<s>a", "<unk> ", "a\n ab\n\n  b"]
    checks = check_llama(tmp_path / "float.gguf", folder, windows, texts, limit=1e-3, threads=1)
    assert all(check.ok for check in checks), checks
    known = ModelFolder(folder).tokenizer()
    found = [tokens(" ab", add_special_tokens=False).tokens() for tokens in (fast, known)]
    assert found == [["\u2581ab"], ["\u2581", "\u2581ab"]]
    lines = [tokens("a\n ab", add_special_tokens=False).tokens() for tokens in (fast, known)]
    assert lines[0] == lines[1] == ["\u2581a", "<0x0A>", "\u2581ab"]


def test_models_that_are_refused_by_every_export(tiny_llama_dir: Path, tmp_path: Path) -> None:
    quantized = altered(tiny_llama_dir, tmp_path / "q", quantization_config={"quant_method": "gptq", "bits": 4})
    gelu = altered(tiny_llama_dir, tmp_path / "gelu", hidden_act="gelu")
    calls = {
        "'gelu'": lambda: export(gelu, tmp_path / "float.gguf"),
    }
    refused(GgufError, calls)
    refused(ModelError, {"quantized already": lambda: export(quantized, tmp_path / "float.gguf")})
    assert not (tmp_path / "float.gguf").exists()
