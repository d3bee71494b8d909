"""Tokenizers of the kinds that the paper's models have, trained in a second, in the files that the hub has of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
SPACE = "\u2581"  # sentencepiece's blank
LONG = 1000000000000000019884624838656  # the originals' model_max_length: none

LLAMA_3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_3_RESERVED = 256


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


def special(content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **flags}


def numbered(names: list[str], first: int) -> dict[str, Any]:
    """Special tokens as tokenizer_config.json has them."""
    return {str(first + i): special(name) for i, name in enumerate(names)}


def listed(names: list[str], first: int) -> list[dict[str, Any]]:
    """Special tokens as tokenizer.json has them."""
    return [{"id": first + i, **special(name)} for i, name in enumerate(names)]


def after_bos(bos: str, number: int) -> dict[str, Any]:
    """A post-processor that puts the first token before every text."""
    first, text = {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    known = {bos: {"id": bos, "ids": [number], "tokens": [bos]}}
    pair = [first, text, *second]
    return {"type": "TemplateProcessing", "single": [first, text], "pair": pair, "special_tokens": known}


# --- Llama-2 and Mistral: sentencepiece, BPE with byte fallback ------------------------------------------------


def sentencepiece_files(folder: Path, corpus: str, size: int, *, legacy: bool) -> int:
    """tokenizer.model, tokenizer.json and their configuration; the size of the vocabulary."""
    import sentencepiece

    model = io.BytesIO()
    lines = [line for line in corpus.split("\n") if line]
    settings = {"model_type": "bpe", "vocab_size": size, "byte_fallback": True, "split_digits": True, "num_threads": 1}
    blanks = {"allow_whitespace_only_pieces": True, "remove_extra_whitespaces": False, "add_dummy_prefix": True}
    more = {"normalization_rule_name": "identity", "character_coverage": 0.9995, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, unk_surface=" \u2047 ", **settings, **blanks, **more
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    write(folder / "tokenizer.json", as_tokenizers_file(pieces))
    added = numbered([UNK, BOS, EOS], 0)
    config: dict[str, Any] = {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    config |= {"bos_token": BOS, "eos_token": EOS, "unk_token": UNK, "pad_token": None, "sp_model_kwargs": {}}
    config |= {"clean_up_tokenization_spaces": False, "model_max_length": LONG, "legacy": legacy}
    write(folder / "tokenizer_config.json", config | {"added_tokens_decoder": added})
    write(folder / "special_tokens_map.json", {"bos_token": BOS, "eos_token": EOS, "unk_token": UNK})
    return int(pieces.get_piece_size())


def as_tokenizers_file(pieces: Any) -> dict[str, Any]:
    """The same tokenizer for the library tokenizers, as the hub's repositories have it.

    A merge is any split of a piece into two pieces; it ranks as the piece does (transformers' converter does the same).
    """
    count = pieces.get_piece_size()
    numbers = {pieces.id_to_piece(i): i for i in range(count)}
    merges = []
    for piece, number in numbers.items():
        if pieces.is_byte(number) or pieces.is_control(number) or pieces.is_unknown(number):
            continue
        splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [(left, right) for left, right in splits if left in numbers and right in numbers]
        known.sort(key=lambda pair: (numbers[pair[0]], numbers[pair[1]]))
        merges += [(-pieces.get_score(number), f"{left} {right}") for left, right in known]
    merges.sort(key=lambda each: each[0])
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, blank]}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    steps = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    model = {"type": "BPE", "dropout": None, "unk_token": UNK, "fuse_unk": True, "byte_fallback": True}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
    model |= {"vocab": numbers, "merges": [merge for _, merge in merges]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": listed([UNK, BOS, EOS], 0),
        "normalizer": normalizer,
        "pre_tokenizer": None,
        "post_processor": after_bos(BOS, 1),
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": model,
    }


# --- Llama-3: byte-level BPE with 256 special tokens -----------------------------------------------------------


def llama_3_files(folder: Path, corpus: str, size: int, *, filled: bool = False) -> int:
    """tokenizer.json and its configuration; the size of the vocabulary with its special tokens.

    filled: entries that no text reaches make up what the corpus is too small for.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    words = pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus.split("\n"), trainer)
    spec = json.loads(tokenizer.to_str())
    vocabulary = spec["model"]["vocab"]
    if filled:
        vocabulary |= {f"<unreached {number}>": number for number in range(len(vocabulary), size)}
    first = len(vocabulary)
    names = llama_3_special_tokens()
    spec["added_tokens"] = listed(names, first)
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    spec["post_processor"] = {"type": "Sequence", "processors": [level, after_bos(names[0], first)]}
    write(folder / "tokenizer.json", spec)
    config = {"bos_token": names[0], "eos_token": names[1], "tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {"added_tokens_decoder": numbered(names, first)}
    config |= {"clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"]}
    write(folder / "tokenizer_config.json", config | {"model_max_length": LONG})
    write(folder / "special_tokens_map.json", {"bos_token": names[0], "eos_token": names[1]})
    return first + len(names)


def llama_3_special_tokens() -> list[str]:
    """Llama-3's special tokens in their order: the first two begin and end a text, the tenth ends a turn."""
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(LLAMA_3_RESERVED - 5)]
    headers = ["<|start_header_id|>", "<|end_header_id|>"]
    return ["<|begin_of_text|>", "<|end_of_text|>", *reserved[:4], *headers, reserved[4], "<|eot_id|>", *reserved[5:]]
