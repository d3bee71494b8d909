"""Perplexity as llama.cpp's own tool counts it: comparable with what others publish of their files.

``llama-perplexity`` (tools/perplexity/perplexity.cpp) tokenizes the whole text, cuts it into chunks of 512 tokens side
by side, puts the begin token in the place of each chunk's first one where the file asks for begin tokens, and scores
the second half of a chunk alone. Text and number of chunks belong to the number: the usual text is WikiText-2's test
set, all of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ramp.export.llamacpp import LlamaCpp, LlamaCppError, window_nll
from ramp.export.llamacpp_check import inexpressible
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import JOIN, read_documents

CHUNK = 512
"""Tokens of a chunk by default (``--ctx-size``)."""


def check_characters(model: ModelFolder, text: Path, name: str) -> None:
    """Raise ``LlamaCppError`` where llama.cpp, and so llama-perplexity, would end at a character of the text."""
    if found := sorted(inexpressible(model.tokenizer(), joined(text))):
        raise LlamaCppError(
            f"--llama-perplexity: {name} has characters that the vocabulary of {model.name} lacks ({len(found)}, such "
            f"as {found[0]!r}), at which llama.cpp ends: leave that option out, or give a --heldout-text without them"
        )


def joined(text: Path) -> str:
    """Return the whole text of a file of documents."""
    return JOIN.join(document.text for document in read_documents(text))


def chunks_of(ids: list[int], begin: int | None, count: int, length: int) -> list[list[int]]:
    """Return the first ``count`` chunks of a text's tokens; ``begin`` takes the first place of each, None: none does.

    Raises ``LlamaCppError`` for a text without so many.
    """
    if len(ids) < count * length:
        raise LlamaCppError(
            f"the text has {len(ids) // length} chunks of {length} tokens, fewer than the {count} of --llama-perplexity"
        )
    chunks = [ids[start : start + length] for start in range(0, count * length, length)]
    return chunks if begin is None else [[begin, *chunk[1:]] for chunk in chunks]


def second_half(nll: np.ndarray) -> np.ndarray:
    """Return what is scored of the negative log-likelihoods [length - 1] of a chunk: tokens behind its middle."""
    return nll[(len(nll) + 1) // 2 :]


def llama_perplexity(gguf: Path, text: Path, count: int, context: int, threads: int) -> float:
    """Return the perplexity of a file on the first ``count`` chunks of a text of documents, in llama.cpp."""
    length = min(CHUNK, context)
    llama = LlamaCpp(gguf, context=length, threads=threads)
    try:
        plain, framed = (llama.tokenize(joined(text), special=special) for special in (False, True))
        begin = framed[0] if framed[: len(plain)] != plain else None
        nll = [second_half(window_nll(llama, chunk)) for chunk in chunks_of(framed, begin, count, length)]
    finally:
        llama.close()
    return float(np.exp(np.concatenate(nll).mean()))
