"""A checkpoint's tokenizer as GGUF metadata, so that llama.cpp makes the same tokens of a text.

Two kinds are written. Byte-level BPE becomes ``tokenizer.ggml.model = gpt2`` with its merges and the name of the
pre-tokenizer that llama.cpp has built in. Sentencepiece-like BPE (pieces that start with U+2581, as Llama-2 and
Mistral have) becomes ``llama`` with a score per token. Everything else ends in one sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ramp.gguf.names import HaloError
from ramp.models.folder import ModelFolder

SPACE = "▁"  # sentencepiece's mark of a space
UNREACHABLE_MERGE = f"{SPACE} {SPACE}"
"""Stands in for an empty list of merges, which GGUF cannot hold and llama.cpp requires: byte-encoded text never
contains this character, so the merge never fires."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""``gguf.TokenType``."""

UNMERGED_SCORE = -1e9
"""Score of a token that no merge makes (characters, special tokens): such scores are never compared."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_PATTERNS = {
    rf"{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
}
"""Expressions as ``tokenizer.json`` carries them, and the name that llama.cpp has each under (its llama-vocab.cpp)."""


def pre_tokenizer_name(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """llama.cpp's name of a byte-level pre-tokenizer of ``tokenizer.json``; None if it is not byte-level.

    GPT-2's own split is ``gpt-2``; the same after splitting off single digits is ``smollm``; Qwen2 and Llama-3 carry
    their expression. Raises ``HaloError`` for a byte-level one that llama.cpp has no name for.
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
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = SPLIT_PATTERNS.get(steps[0]["pattern"].get("Regex", ""))
        if name:
            return name
    raise HaloError(
        f"the pre-tokenizer {' + '.join(kinds)} of tokenizer.json is not one that llama.cpp has a name for: "
        "add its expression to SPLIT_PATTERNS in ramp/gguf/vocabulary.py"
    )


def add_tokenizer(writer: Any, model_dir: str | Path, vocab_size: int) -> str:
    """Write the tokenizer of ``model_dir`` into a ``gguf.GGUFWriter``; return llama.cpp's name for its kind.

    Rows of the embedding beyond the tokenizer's last token become unused tokens, as in llama.cpp's converter.
    """
    tokenizer = ModelFolder(model_dir).tokenizer()
    path = Path(model_dir) / "tokenizer.json"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise HaloError(f"{model_dir} has no tokenizer.json: convert its tokenizer with transformers first")
    # As loaded, not as on disk: for some families transformers puts its own pre-tokenizer in the file's place.
    spec = json.loads(backend.to_str())
    model = spec["model"]
    if model.get("type") != "BPE":
        raise HaloError(f"{path}: tokenizers of type '{model.get('type')}' are not exported to GGUF, only BPE is")
    tokens, types = _tokens(spec, vocab_size, path)
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
    _add_special(writer, tokenizer)
    return "gpt2" if pre is not None else "llama"


def _tokens(spec: dict[str, Any], vocab_size: int, path: Path) -> tuple[list[str], list[int]]:
    """Text and type of every token id from 0 to ``vocab_size`` - 1."""
    model = spec["model"]
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [UNUSED] * vocab_size
    found = [(index, text, NORMAL) for text, index in model["vocab"].items()]
    for added in spec.get("added_tokens", []):
        found.append((added["id"], added["content"], CONTROL if added["special"] else USER_DEFINED))
    for index, text, kind in found:
        if index >= vocab_size:
            raise HaloError(f"{path}: token {index} ('{text}') lies beyond the model's {vocab_size} embedding rows")
        tokens[index], types[index] = text, kind
    if model.get("unk_token") in model["vocab"]:
        types[model["vocab"][model["unk_token"]]] = UNKNOWN
    if model.get("byte_fallback"):
        for byte in range(256):
            index = model["vocab"].get(f"<0x{byte:02X}>")
            if index is not None:
                types[index] = BYTE
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Scores that make llama.cpp merge in the order of ``merges``: minus the rank of the first merge that makes it.

    llama.cpp's sentencepiece joins the neighbours whose union has the highest score. Converters derived the merges
    from sentencepiece's scores by exactly that order, so the ranks give it back.
    """
    rank: dict[str, int] = {}
    for position, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), position)
    return [-float(rank[token]) if token in rank else UNMERGED_SCORE for token in tokens]


def _space_prefix(spec: dict[str, Any], path: Path) -> bool:
    """Whether a text gets a space in front; ``HaloError`` if spaces are not marked as sentencepiece does."""
    pre, normalizer = spec.get("pre_tokenizer") or {}, spec.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if pre.get("type") == "Metaspace" and pre.get("replacement") == SPACE:
        return pre.get("prepend_scheme", "always") != "never"
    replaces = any(step.get("type") == "Replace" and step.get("content") == SPACE for step in steps)
    if not replaces:
        raise HaloError(f"{path}: neither byte-level nor sentencepiece-like BPE: llama.cpp has no tokenizer for it")
    return any(step.get("type") == "Prepend" and step.get("prepend") == SPACE for step in steps)


def _add_special(writer: Any, tokenizer: Any) -> None:
    """Ids of the special tokens, and whether a text is framed by them, both as the loaded tokenizer does it."""
    for name, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        index = getattr(tokenizer, f"{name}_token_id", None)
        if index is not None:
            add(int(index))
    framed = tokenizer("a").input_ids
    plain = tokenizer("a", add_special_tokens=False).input_ids
    writer.add_add_bos_token(framed[:1] != plain[:1] and framed[:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(framed[-1:] != plain[-1:] and framed[-1:] == [tokenizer.eos_token_id])
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, str) and template:
        writer.add_chat_template(template)
