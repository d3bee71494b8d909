"""The blank that sentencepiece puts before a text, also before one that begins with a blank.

transformers 5 reads the tokenizers of Llama-2 and Mistral, whatever their ``tokenizer.json`` says, with a step that
marks blanks and puts one in front of a text unless there is one (``Metaspace``). sentencepiece, the ``tokenizer.json``
that Meta and Mistral publish, and llama.cpp always put one there.
"""

from __future__ import annotations

from typing import Any

MARK = "\u2581"
"""What sentencepiece writes for a blank."""

FIRST_BLANK = r"\A "
"""Expression of a blank that a text begins with; ``^`` would also match after a line end."""


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
