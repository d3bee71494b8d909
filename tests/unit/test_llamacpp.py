"""Our GGUF files in stock llama.cpp: same tokens, same logits (bytes: test_ggml.py, test_static_mix.py)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.export import halo, write
from ramp.export import llamacpp_check as halo_check
from ramp.export.llamacpp import LlamaCpp, LlamaCppError, LoadError, generate, window_nll
from ramp.export.write import export
from ramp.gguf_format.reader import GgufFile
from tests.conftest import SHAPE as SMALL
from tests.conftest import save_random_model
from tests.gguf_inputs import allocation_of, llama_nll, statistics, tokens_that_differ
from tests.model_folders import load_float, load_gguf_float, load_tokenizer
from tests.sealed import read_json
from tests.tiny_models import altered

pytest.importorskip("cyllama")


SHAPE = SMALL | {"hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 128}

PROSE = (
    "The quick brown fox jumps over the lazy dog. In 1995 and 2024 there were 365 and 366 days, weren't there? "
    "It's said that 1,234,567 people (about 12.5%) don't agree; they'll say so.\n\nNew paragraph:  two spaces, 100 "
    "naïve cafés and 3.14159. The river rose by 12 metres in 1953, and the town of 4,000 was rebuilt on a hill.\n"
) * 4


def bpe_tokenizer(folder: Path, pre: str) -> int:
    """Train a byte-level BPE tokenizer with the named pre-tokenizer into ``folder``; return its size."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from ramp.gguf_format.vocabulary import SPLIT_PATTERNS

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps: dict[str, Any] = {"gpt-2": byte_level}
    steps["smollm"] = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    for pattern, name in SPLIT_PATTERNS.items():
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        steps[name] = pre_tokenizers.Sequence([split, plain])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = steps[pre], decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([PROSE], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], bos_token=special[1])
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def random_model(folder: Path, family: str, *, pre: str = "gpt-2", **changes: Any) -> Path:
    """A random checkpoint with grouped heads and, for qwen2, biases."""
    from transformers import AutoConfig

    size = bpe_tokenizer(folder, pre)
    more: dict[str, Any] = {"tie_word_embeddings": family == "qwen2"}
    if family == "mistral":
        more["sliding_window"] = 128
    config = AutoConfig.for_model(family, vocab_size=size, bos_token_id=1, eos_token_id=0, **more, **SHAPE | changes)
    return save_random_model(folder, config)


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def float_gguf(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "float.gguf"
    export(llama_dir, path)
    return path


def some_windows(model_dir: Path, count: int = 2, length: int = 48) -> torch.Tensor:
    ids = load_tokenizer(model_dir)(PROSE).input_ids
    return torch.tensor([ids[i * length : (i + 1) * length] for i in range(count)])


def text_file(path: Path) -> Path:
    digest = hashlib.sha256(PROSE.encode()).hexdigest()
    path.write_text(json.dumps({"doc": "a", "sha256": digest, "text": PROSE}) + "\n", encoding="utf-8")
    return path


def test_float_file_computes_what_transformers_computes(model_dir: Path, tmp_path: Path) -> None:
    """Every token's likelihood, for permuted q/k (Llama, Mistral) and for plain rows with biases (Qwen2)."""
    path = tmp_path / "float.gguf"
    export(model_dir, path)
    windows = some_windows(model_dir)
    ours = halo_check.transformers_nll(load_float(model_dir), windows)
    theirs = llama_nll(path, windows)
    np.testing.assert_allclose(theirs, ours, atol=0.02)  # llama.cpp keeps keys and values in float16
    assert abs(np.exp(theirs.mean() - ours.mean()) - 1) < halo_check.FLOAT_LIMIT
    prompt = windows[0, :8].tolist()
    llama = LlamaCpp(path, context=windows.shape[1], threads=1)
    made = generate(llama, prompt, 8)
    llama.close()
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        for _ in range(8):
            ids = torch.cat([ids, load_float(model_dir)(ids).logits[:, -1:].argmax(-1)], 1)
    assert made == ids[0, 8:].tolist()


def test_the_checks_notice_unpermuted_rows(llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "float.gguf"
    monkeypatch.setattr(write, "to_gguf_rows", lambda values, heads: values)
    monkeypatch.setattr("ramp.gguf_format.reader.from_gguf_rows", lambda values, heads: values)
    export(llama_dir, path)
    checks = halo_check.check_llama(path, llama_dir, some_windows(llama_dir), [], 0.001, threads=1)
    found = {one.check: one for one in checks}
    assert not found["perplexity_difference"].ok
    assert found["loads"].ok


def test_mixed_k_quants_pass_every_check(model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "mix.gguf"
    plan = export(model_dir, path, allocation_of(model_dir), statistics(model_dir, tmp_path / "c.safetensors"))
    assert {tensor.type for tensor in plan.tensors} == {"Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F32"}
    checks = halo_check.check_layout(path, plan)
    checks += halo_check.check_llama(
        path, model_dir, some_windows(model_dir), list(halo_check.PROBES), halo_check.QUANTIZED_LIMIT, threads=1
    )
    assert [one for one in checks if not one.ok] == []
    assert {"loads", "generated_tokens", "tokenizer_differs", "perplexity_difference"} <= {c.check for c in checks}


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_byte_level_tokenizers_agree(pre: str, tmp_path: Path) -> None:
    folder = random_model(tmp_path / pre, "llama", pre=pre, num_hidden_layers=1)
    export(folder, tmp_path / "float.gguf")
    assert GgufFile(tmp_path / "float.gguf").metadata("tokenizer.ggml.pre") == pre
    assert tokens_that_differ(tmp_path / "float.gguf", folder, [*halo_check.PROBES, *PROSE.splitlines()]) == 0


def test_the_check_notices_another_pre_tokenizer(
    llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "smollm" splits digits; this tokenizer does not
    monkeypatch.setattr("ramp.gguf_format.vocabulary.pre_tokenizer_name", lambda spec: "smollm")
    export(llama_dir, tmp_path / "float.gguf")
    assert tokens_that_differ(tmp_path / "float.gguf", llama_dir, PROSE.splitlines()) > 0


def sentencepiece_like(folder: Path) -> None:
    """A BPE tokenizer as converters write Llama-2's: spaces marked, a begin token, bytes for unknown characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    trained.train_from_iterator(PROSE.split("\n"), trainer)
    model = json.loads(trained.to_str())["model"]
    model["merges"] = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=model["vocab"], merges=model["merges"], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer, tokenizer.decoder = trained.normalizer, decoders.ByteFallback()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def test_sentencepiece_like_tokenizer_agrees(llama_dir: Path, tmp_path: Path) -> None:
    folder = altered(llama_dir, tmp_path / "model")
    sentencepiece_like(folder)
    config = read_json(folder / "config.json")
    assert len(load_tokenizer(folder)) <= config["vocab_size"]
    export(folder, tmp_path / "float.gguf")
    file = GgufFile(tmp_path / "float.gguf")
    assert file.metadata("tokenizer.ggml.model") == "llama"
    assert file.metadata("tokenizer.ggml.add_bos_token") is True
    assert tokens_that_differ(tmp_path / "float.gguf", folder, [*halo_check.PROBES, *PROSE.splitlines()]) == 0
    llama = LlamaCpp(tmp_path / "float.gguf", context=16, threads=1)
    assert llama.tokenize("The fox", special=True)[0] == 1
    llama.close()


def test_llama_cpps_quantized_file_loads_as_a_model(llama_dir: Path, float_gguf: Path, tmp_path: Path) -> None:
    """Our reader on a file that we did not write: K-quants with llama.cpp's own choice of embedding type."""
    from cyllama.llama import llama_cpp

    llama_cpp.disable_logging()
    options = llama_cpp.LlamaModelQuantizeParams()
    options.ftype, options.nthread = 18, 1  # Q6_K
    llama_cpp.model_quantize(str(float_gguf), str(tmp_path / "theirs.gguf"), options)
    windows = some_windows(llama_dir)
    ours = halo_check.transformers_nll(load_gguf_float(llama_dir, tmp_path / "theirs.gguf"), windows)
    theirs = llama_nll(tmp_path / "theirs.gguf", windows)
    assert abs(np.exp(theirs.mean() - ours.mean()) - 1) < halo_check.QUANTIZED_LIMIT
    assert np.abs(theirs - ours).max() < 0.3  # llama.cpp rounds activations to 8 bits


def test_a_broken_file_is_refused(float_gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(float_gguf.read_bytes()[:5000])
    with pytest.raises(LoadError, match="cannot load"):
        LlamaCpp(broken, context=16, threads=1)


def test_a_window_longer_than_the_context_is_refused(float_gguf: Path) -> None:
    llama = LlamaCpp(float_gguf, context=16, threads=1)
    with pytest.raises(LlamaCppError, match="17 tokens"):
        window_nll(llama, [3] * 17)
    llama.close()


def test_command_line_exits_1_on_a_failed_limit(
    llama_dir: Path, float_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text, out, plan = text_file(tmp_path / "text.jsonl"), tmp_path / "check.json", float_gguf.with_suffix(".plan.json")
    common = ["check", "--gguf", str(float_gguf), "--plan", str(plan), "--model-dir", str(llama_dir)]
    common += ["--text", str(text), "--length", "48", "--out", str(out), "--threads", "1"]
    assert halo.main(common) == 0
    records = read_json(out)
    assert all(one["ok"] for one in records)
    assert records[-1]["limit"] == halo_check.FLOAT_LIMIT
    for more, status in (([], 1), (["--keep-going"], 0)):  # the workflow keeps going: the paper reports what failed
        caplog.clear()
        out.unlink()
        assert halo.main([*common, "--limit", "-1", *more]) == status
        assert [one["check"] for one in read_json(out) if not one["ok"]] == ["perplexity_difference"]
        assert "check failed: float.gguf: perplexity_difference" in caplog.text
