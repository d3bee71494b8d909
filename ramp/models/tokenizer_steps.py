"""Steps before the merges of a tokenizer: those of its ``tokenizer.json``, and the blank that sentencepiece puts first.

transformers 5 builds some classes of tokenizers (GPT-2's, Llama's) with normalizer and pre-tokenizer of its own,
whatever ``tokenizer.json`` says, and then gives other tokens than those the model was trained on: SmolLM2's splits
digits, and is published as a ``GPT2Tokenizer``; byte-level tokenizers are published as a ``LlamaTokenizer``.

Llama's class marks blanks and puts one in front of a text unless there is one (``Metaspace``). sentencepiece, the
``tokenizer.json`` that Meta and Mistral publish, and llama.cpp always put one there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MARK = "\u2581"
"""What sentencepiece writes for a blank."""

FIRST_BLANK = r"\A "
"""Expression of a blank that a text begins with; ``^`` would also match after a line end."""


def with_published_steps(tokenizer: Any, file: Path) -> Any:
    """Return a tokenizer with the normalizer and the pre-tokenizer of ``file``; as it is where there is no file."""
    from tokenizers import Tokenizer

    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and file.is_file():
        published = Tokenizer.from_file(str(file))
        backend.normalizer, backend.pre_tokenizer = published.normalizer, published.pre_tokenizer
    return tokenizer


def with_first_blank(tokenizer: Any) -> Any:
    """Return a tokenizer as it is; a sentencepiece-like one reads a first blank as two, of which one is the added."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    step = getattr(backend, "pre_tokenizer", None)
    if isinstance(step, pre_tokenizers.Metaspace) and step.replacement == MARK and step.prepend_scheme != "never":
        double = normalizers.Replace(Regex(FIRST_BLANK), "  ")
        known = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([double, *known])
    return tokenizer
