"""Tokenizers as published folders have them: the stages read the tokens of their own files, or refuse in a sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SHAPE, save_random_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig

from ramp.export.write import export
from ramp.models.architecture import ModelError
from ramp.models.folder import ModelFolder
from tests.gguf_inputs import tokens_that_differ
from tests.model_folders import load_tokenizer
from tests.refusals import refused
from tests.tiny_models import altered, random_llama

LINES = (
    "The quick brown fox, it's 1234 jumps over the lazy dog.",
    " a line that begins with a blank",
    "    return 1  # four blanks, then two",
    "\ttab\n  two blanks after a line end\n\n\nthree line ends ",
    "naïve café, 東京, e\u0301 in two characters",
    "<s>old price</s> and the <unk> token",
)
NUMBERED = "a\n\n1. item\n\n2. item\n\n12. item"
"""Two line ends are one token where digits are split off before words are, and two where they are not."""


def sentencepiece_files(folder: Path, **settings: Any) -> Any:
    """Write tokenizer.model and tokenizer_config.json as Llama-2 has them; return sentencepiece's own tokenizer."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in LINES for line in text.splitlines()] * 4), model_writer=made,
        model_type="bpe", vocab_size=330, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2, num_threads=1,
    )  # fmt: skip
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    about = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about | settings))
    return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("alone", ["tokenizer.model", "tokenizer.json"])
def test_sentencepiece_tokens_are_its_own(legacy: bool, alone: str, tmp_path: Path) -> None:
    """Also of a text that begins with a blank, to which sentencepiece adds one."""
    folder = random_llama(tmp_path / "model", num_hidden_layers=1)
    known = sentencepiece_files(folder, legacy=legacy)
    if alone == "tokenizer.json":
        spec = json.loads(load_tokenizer(folder).backend_tokenizer.to_str())
        marks = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
        spec |= {"normalizer": {"type": "Sequence", "normalizers": marks}, "pre_tokenizer": None}  # as Meta has it
        (folder / "tokenizer.json").write_text(json.dumps(spec))
        (folder / "tokenizer.model").unlink()
    tokenizer = load_tokenizer(folder)
    for line in LINES:
        assert tokenizer(line, add_special_tokens=False, split_special_tokens=True)["input_ids"] == known.encode(line)


def test_a_right_file_of_a_sentencepiece_model_fails_no_check(tmp_path: Path) -> None:
    pytest.importorskip("cyllama")
    folder = random_llama(tmp_path / "model", num_hidden_layers=1)
    known = sentencepiece_files(folder)
    save_random_model(folder, LlamaConfig(vocab_size=known.vocab_size(), **SHAPE))
    export(folder, tmp_path / "float.gguf")
    assert tokens_that_differ(tmp_path / "float.gguf", folder, list(LINES)) == 0


@pytest.mark.parametrize("composes", [False, True])
def test_a_right_file_of_a_byte_level_model_fails_no_check(
    composes: bool, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """Qwen2's composes characters, llama.cpp does not: only composed text is compared."""
    pytest.importorskip("cyllama")
    folder = altered(tiny_llama_dir, tmp_path / "model")
    if composes:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.save(str(folder / "tokenizer.json"))
    export(folder, tmp_path / "float.gguf")
    assert tokens_that_differ(tmp_path / "float.gguf", folder, [*LINES, "one<|endoftext|>two"]) == 0


@pytest.mark.parametrize("name", ["LlamaTokenizerFast", "LlamaTokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast"])
def test_byte_level_tokens_under_another_class_are_those_of_the_file(
    name: str, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """DeepSeek's files name Llama's class, SmolLM2's GPT-2's: transformers has pre-tokenizers of its own for both."""
    folder = altered(tiny_llama_dir, tmp_path / "model")
    published = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    published.pre_tokenizer, published.decoder = pre_tokenizers.Sequence(steps), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    published.train_from_iterator([NUMBERED] * 20, trainer)
    published.save(str(folder / "tokenizer.json"))
    file = folder / "tokenizer_config.json"
    about = json.loads(file.read_text(encoding="utf-8")) | {"tokenizer_class": name}
    file.write_text(json.dumps(about))
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    for line in (*LINES[:-1], NUMBERED):
        assert tokenizer(line, add_special_tokens=False)["input_ids"] == own.encode(line, add_special_tokens=False).ids


def test_folders_without_a_tokenizer_that_can_be_read(tiny_llama_dir: Path, tmp_path: Path) -> None:
    missing, broken = altered(tiny_llama_dir, tmp_path / "missing"), altered(tiny_llama_dir, tmp_path / "broken")
    for file in missing.glob("tokenizer*"):
        file.unlink()
    (broken / "tokenizer.json").write_text('{"version": "1.0", "model"')
    for folder in (missing, broken):
        refused(ModelError, {f"{folder.name} has no tokenizer": ModelFolder(folder).tokenizer})


def test_an_added_token_beyond_the_embedding_is_left_out(
    tiny_llama_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A [PAD] that the model has no row for is in no text, as llama.cpp's converter has it."""
    folder = altered(tiny_llama_dir, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[PAD]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    known, before = load_tokenizer(folder), load_tokenizer(tiny_llama_dir)
    assert known(LINES[0])["input_ids"] == before(LINES[0])["input_ids"]
    export(folder, tmp_path / "float.gguf")
    assert "('[PAD]') has no row in the embedding" in caplog.text
    assert tokens_that_differ(tmp_path / "float.gguf", folder, list(LINES)) == 0
