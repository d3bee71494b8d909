"""A checkpoint's tokenizer as GGUF metadata, so that llama.cpp makes the same tokens of a text.

Two kinds are written. Byte-level BPE becomes ``tokenizer.ggml.model = gpt2`` with its merges and the name of
llama.cpp's pre-tokenizer. Sentencepiece-like BPE (pieces that start with U+2581, as in Llama-2 and Mistral) becomes
``llama`` with a score per token. Other tokenizers raise ``GgufError``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from ramp.core.cli import log
from ramp.gguf_format.names import GgufError
from ramp.models.folder import ModelFolder
from ramp.models.tokenizer_steps import FIRST_BLANK
from ramp.models.tokenizer_steps import MARK as SPACE

UNREACHABLE_MERGE = f"{SPACE} {SPACE}"
"""Stands in for an empty list of merges, which GGUF cannot hold and llama.cpp requires: byte-encoded text never
contains this character, so the merge never fires."""

UNMERGED_SCORE = -1e9
"""Score of a token that no merge makes (characters, special tokens): such scores are never compared."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_PATTERNS = {rf"{_WORDS}|\p{{N}}|{_REST}": "qwen2", rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe"}
"""Expressions of ``tokenizer.json``, and llama.cpp's name of each (llama-vocab.cpp)."""


def pre_tokenizer_name(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Return llama.cpp's name of a byte-level pre-tokenizer of ``tokenizer.json``; None if it is not byte-level.

    GPT-2's own split is ``gpt-2``; the same behind a split into single digits is ``smollm``; Qwen2 and Llama-3 carry
    their expression. Raises ``GgufError`` for a byte-level one that llama.cpp has no name for.
    """
    if pre_tokenizer is None:
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = [step["type"] for step in steps]
    if "ByteLevel" not in kinds:
        return None
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return "smollm"
    splits = kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True)
    if splits and (name := SPLIT_PATTERNS.get(steps[0]["pattern"].get("Regex", ""))):
        return name
    raise GgufError(
        f"the pre-tokenizer {' + '.join(kinds)} of tokenizer.json is not one that llama.cpp has a name for: "
        "add its expression to SPLIT_PATTERNS in ramp/gguf_format/vocabulary.py"
    )


def add_tokenizer(writer: GGUFWriter, model_dir: str | Path, vocab_size: int) -> str:
    """Write the tokenizer of ``model_dir`` and return llama.cpp's name of its kind.

    Rows of the embedding beyond the tokenizer's last token become unused tokens, as in llama.cpp's converter.
    """
    tokenizer = ModelFolder(model_dir).tokenizer()
    path = Path(model_dir) / "tokenizer.json"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise GgufError(f"{model_dir} has no tokenizer.json: convert its tokenizer with transformers first")
    # As loaded, not as on disk: for some families transformers puts its own pre-tokenizer in the file's place.
    spec = json.loads(backend.to_str())
    model = spec["model"]
    if model.get("type") != "BPE":
        raise GgufError(f"{path}: tokenizers of type '{model.get('type')}' are not exported to GGUF, only BPE is")
    tokens, types = _tokens(spec, vocab_size, path)
    _check_text_is_read_alike(spec, path)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    pre = pre_tokenizer_name(spec.get("pre_tokenizer"))
    if pre is not None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges or [UNREACHABLE_MERGE])
    else:
        prefix = _space_prefix(spec, path)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(prefix)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    _add_special(writer, tokenizer, vocab_size)
    return "gpt2" if pre is not None else "llama"


def _check_text_is_read_alike(spec: dict[str, Any], path: Path) -> None:
    """Raise ``GgufError`` for steps before the merges that llama.cpp does not have: its tokens would be others.

    It has no normalizer but sentencepiece's marks of spaces. NFC, in Qwen2's tokenizer, is passed over as in
    llama.cpp's own converter: it changes nothing in text that is composed already.
    """
    normalizer = spec.get("normalizer") or {}
    for step in normalizer.get("normalizers", [normalizer] if normalizer else []):
        marks = step.get("content") == SPACE or step.get("pattern") == {"Regex": FIRST_BLANK}
        if step["type"] in ("NFC", "Prepend") or (step["type"] == "Replace" and marks):
            continue
        raise GgufError(f"{path}: llama.cpp has no normalizer '{step['type']}', its tokens would be others")
    pre = spec.get("pre_tokenizer") or {}
    for step in pre.get("pretokenizers", [pre]):
        if step.get("type") == "ByteLevel" and step.get("add_prefix_space"):
            raise GgufError(f"{path}: llama.cpp puts no space before a byte-level text, as add_prefix_space asks")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if spec["model"].get(key):
            raise GgufError(f"{path}: llama.cpp's BPE has no {key}, its tokens would be others")


def _tokens(spec: dict[str, Any], vocab_size: int, path: Path) -> tuple[list[str], list[TokenType]]:
    """Return text and type of every token id from 0 to ``vocab_size`` - 1."""
    vocab: dict[str, int] = spec["model"]["vocab"]
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [TokenType.UNUSED] * vocab_size
    found = [(index, text, TokenType.NORMAL) for text, index in vocab.items()]
    for added in spec.get("added_tokens", []):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        if added["id"] >= vocab_size and added["content"] not in vocab:
            log.warning(
                "%s: the added token %d ('%s') has no row in the embedding and is left out", path, added["id"],
                added["content"],
            )  # fmt: skip
            continue
        found.append((added["id"], added["content"], kind))
    for index, text, kind in found:
        if index >= vocab_size:
            raise GgufError(f"{path}: token {index} ('{text}') lies beyond the model's {vocab_size} embedding rows")
        tokens[index], types[index] = text, kind
    if (unknown := spec["model"].get("unk_token")) in vocab:
        types[vocab[unknown]] = TokenType.UNKNOWN
    if spec["model"].get("byte_fallback"):
        for byte in range(256):
            if (piece := f"<0x{byte:02X}>") in vocab:
                types[vocab[piece]] = TokenType.BYTE
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return scores that make llama.cpp merge in the order of ``merges``: minus the rank of a token's first merge.

    llama.cpp's sentencepiece joins the neighbours whose union has the highest score. Converters derive the merges from
    sentencepiece's scores in that order, so the ranks restore it.
    """
    rank: dict[str, int] = {}
    for position, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), position)
    return [-float(rank[token]) if token in rank else UNMERGED_SCORE for token in tokens]


def _space_prefix(spec: dict[str, Any], path: Path) -> bool:
    """Return whether a text gets a space in front; ``GgufError`` if spaces are not marked as in sentencepiece."""
    pre, normalizer = spec.get("pre_tokenizer") or {}, spec.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if pre.get("type") == "Metaspace" and pre.get("replacement") == SPACE:
        return pre.get("prepend_scheme", "always") != "never"
    replaces = any(step.get("type") == "Replace" and step.get("content") == SPACE for step in steps)
    if not replaces:
        raise GgufError(f"{path}: neither byte-level nor sentencepiece-like BPE: llama.cpp has no tokenizer for it")
    return any(step.get("type") == "Prepend" and step.get("prepend") == SPACE for step in steps)


def _add_special(writer: GGUFWriter, tokenizer: Any, vocab_size: int) -> None:
    """Write the ids of special tokens, and whether the loaded tokenizer puts them around a text."""
    for name in ("bos", "eos", "unk", "pad"):
        index = getattr(tokenizer, f"{name}_token_id", None)
        if index is not None and index < vocab_size:
            getattr(writer, f"add_{name}_token_id")(int(index))
    framed = tokenizer("a").input_ids
    plain = tokenizer("a", add_special_tokens=False).input_ids
    writer.add_add_bos_token(framed[:1] != plain[:1] and framed[:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(framed[-1:] != plain[-1:] and framed[-1:] == [tokenizer.eos_token_id])
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several by name
        template = template.get("default")
    if isinstance(template, str) and template:
        writer.add_chat_template(template)
