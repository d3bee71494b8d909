"""Check a GGUF file: against its plan, and in stock llama.cpp against transformers."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.atomic_files import require_file
from ramp.core.cli import log
from ramp.export.llamacpp import LlamaCpp, LlamaCppError, LoadError, generate, window_nll
from ramp.export.plan import GgufPlan
from ramp.gguf_format.names import GgufError
from ramp.gguf_format.reader import GgufFile, streamed_file
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import read_documents

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ramp.models.streamed_model import StreamedModel

FLOAT_LIMIT = 0.001
"""Relative difference in perplexity between llama.cpp and transformers allowed for a float32 file."""

QUANTIZED_LIMIT = 0.03
"""The same for quantized files: on a CPU llama.cpp rounds the activations to 8 bits before each product."""

LOGITS = 1 << 26
"""Logits of the float model that exist at once: 0.8 GB in float32 and float64."""

GENERATED_TOKENS = 8
PROMPT_TOKENS = 8

PROBES = (
    "Hello world!",
    "In 2024, 365 days cost $1,234.56 (about 99%).",
    "It's what we've said: don't, won't, they'll...",
    "two  spaces, three   spaces and a trailing one ",
    "line one\nline two\n\nline four\tand a tab",
    "naïve café, Ω ≈ 3.5 kΩ, 東京, 🙂",
    "  blanks first, then <s>markup</s> <unk> and <|endoftext|><|im_end|> as plain text",
)
"""Texts on which tokenizers tend to disagree: digits, contractions, runs of spaces, line breaks, other scripts, blanks
at the beginning, the literal strings of special tokens."""

SAMPLE_LINES = 40

AT_LEAST = ("loads", "generated_tokens")
"""Checks that pass at or above their limit, the others at or below it."""


@dataclass(frozen=True)
class Check:
    """One entry of ``.check.json``: a measured value and its limit."""

    file: str
    check: str  # name; ``loads`` and ``generated_tokens`` pass at or above their limit, the others at or below it
    value: float
    limit: float
    ok: bool


def judge(file: str, check: str, value: float, limit: float = 0) -> Check:
    """Return a check that passes at or below ``limit``, those of ``AT_LEAST`` at or above it."""
    ok = value >= limit if check in AT_LEAST else value <= limit
    return Check(file, check, float(value), float(limit), bool(ok))


def check_layout(path: Path, plan: GgufPlan) -> list[Check]:
    """Compare the file on disk with the plan: every tensor, its type, shape and bytes, and the size of the file."""
    file = GgufFile(path)
    planned, found = {tensor.name for tensor in plan.tensors}, set(file.names())
    counts = dict.fromkeys(("types_differ", "shapes_differ", "bytes_differ", "contents_differ"), 0)
    for tensor in plan.tensors:
        if tensor.name in found:
            raw = file.raw(tensor.name)
            counts["types_differ"] += file.type(tensor.name) != tensor.type
            counts["shapes_differ"] += file.shape(tensor.name) != tensor.shape
            counts["bytes_differ"] += raw.nbytes != tensor.bytes
            counts["contents_differ"] += hashlib.sha256(raw.data).hexdigest() != tensor.sha256
    size = path.stat().st_size
    return [
        judge(path.name, "tensors_missing", len(planned - found)),
        judge(path.name, "tensors_unplanned", len(found - planned)),
        *(judge(path.name, check, value) for check, value in counts.items()),
        judge(path.name, "file_bytes_differ", abs(size - plan.sizes["bytes_file"])),
    ]


def check_file(
    gguf: str | Path,
    plan: GgufPlan,
    model_dir: str | Path,
    text: str | Path,
    *,
    length: int,
    windows: int,
    limit: float | None = None,
    threads: int = 2,
) -> list[Check]:
    """Run every check of one file; llama.cpp reads it only if it is what its plan says.

    limit: relative difference in perplexity; None: ``FLOAT_LIMIT`` or ``QUANTIZED_LIMIT``, by the plan.
    """
    path = require_file(gguf, "GGUF file")
    tokens = ModelFolder(model_dir).windows(text, length=length, count=windows)
    if tokens.shape[1] < PROMPT_TOKENS + GENERATED_TOKENS:
        raise GgufError(f"windows of {tokens.shape[1]} tokens are too short to generate in: use at least 16")
    checks = check_layout(path, plan)
    if not all(one.ok for one in checks):
        log.error("%s differs from its plan: llama.cpp is not run", path.name)
        return checks
    if limit is None:
        limit = FLOAT_LIMIT if plan.kind == "float" else QUANTIZED_LIMIT
    return checks + check_llama(path, model_dir, tokens, sample_texts(text), limit, threads)


def sample_texts(text_path: str | Path) -> list[str]:
    """Return the probes and the first lines of a role's documents."""
    lines = [line for document in read_documents(text_path) for line in document.text.splitlines() if line.strip()]
    return [*PROBES, *lines[:SAMPLE_LINES]]


def inexpressible(tokenizer: Any, text: str) -> set[str]:
    """Return the characters of a text that the vocabulary cannot express.

    Where it has no byte tokens, the tokenizer returns its unknown token for them, and llama.cpp ends the process.
    """
    unknown, plain = tokenizer.unk_token_id, {"add_special_tokens": False, "split_special_tokens": True}
    if unknown not in tokenizer(text, verbose=False, **plain).input_ids:
        return set()
    return {x for x in set(text) if unknown in tokenizer(x, **plain).input_ids}


def tokenizer_differences(llama: LlamaCpp, tokenizer: Any, texts: list[str]) -> int:
    """Return in how many texts the token ids of llama.cpp and of the tokenizer differ, begin and end tokens included.

    The name of a special token is text on both sides. A text is composed (NFC) where the tokenizer composes it:
    llama.cpp does not. Characters that the vocabulary cannot express (``inexpressible``) are dropped.
    """
    composes = "NFC" in str(tokenizer.backend_tokenizer.normalizer)
    different = []
    for text in (unicodedata.normalize("NFC", text) for text in texts) if composes else texts:
        dropped = inexpressible(tokenizer, text)
        text = "".join(x for x in text if x not in dropped)
        ours, theirs = tokenizer(text, split_special_tokens=True).input_ids, llama.tokenize(text, special=True)
        if ours != theirs:
            different.append((text[:60], theirs[:12], ours[:12]))
    log.info("tokens of llama.cpp and transformers compared on %d texts: they differ on %d", len(texts), len(different))
    if different:
        log.warning("tokens differ, first on %r: %s in llama.cpp, %s in transformers", *different[0])
    return len(different)


def transformers_nll(model: PreTrainedModel | StreamedModel, windows: torch.Tensor) -> np.ndarray:
    """Return the negative log-likelihood of all but each window's first token, nats, float64 [windows, length - 1].

    One window goes through the head at a time, in slices of ``LOGITS``.
    """
    import torch

    from ramp.models.streamed_model import StreamedModel
    from ramp.scoring.kl_divergence import final_hidden, head_weight

    head = head_weight(model)
    count, length = windows.shape
    nll = torch.empty(count, length - 1, dtype=torch.float64)
    step = max(1, LOGITS // len(head))
    with torch.inference_mode():
        parts = [slice(index, index + 1) for index in range(count)]
        if isinstance(model, StreamedModel):
            batches = model.hidden_batches(windows, parts)
        else:
            batches = ((part, final_hidden(model, windows[part].to(head.device))) for part in parts)
        for part, hidden in batches:  # [1, length, hidden]
            for start in range(0, length, step):
                logits = torch.nn.functional.linear(hidden[0, start : start + step], head).double()
                targets = windows[part.start, start + 1 : start + step + 1].to(head.device)
                found = torch.nn.functional.cross_entropy(logits[: len(targets)], targets, reduction="none")
                nll[part.start, start : start + step] = found.cpu()
    return nll.numpy()


def check_llama(
    path: Path,
    model_dir: str | Path,
    windows: torch.Tensor,
    texts: list[str],
    limit: float,
    threads: int = 2,
) -> list[Check]:
    """Load the file in llama.cpp, generate, tokenize, and compare perplexity on ``windows`` (int64 [n, length]).

    Both sides read the same token ids, every position is scored, and transformers computes in float32 with the file's
    de-quantized tensors, block by block, after llama.cpp has let go of the file. A file that llama.cpp refuses is a
    failed check; a missing llama.cpp raises ``LlamaCppError``.
    """
    name, length = path.name, windows.shape[1]
    try:
        llama = LlamaCpp(path, context=length, threads=threads)
    except LoadError as error:
        log.error("%s", error)
        return [judge(name, "loads", 0, 1)]
    checks = [judge(name, "loads", 1, 1)]
    try:
        prompt = windows[0, :PROMPT_TOKENS].tolist()
        checks.append(judge(name, "generated_tokens", _generated(llama, prompt), GENERATED_TOKENS))
        tokenizer = ModelFolder(model_dir).tokenizer()
        checks.append(judge(name, "tokenizer_differs", tokenizer_differences(llama, tokenizer, texts)))
        theirs = np.stack([window_nll(llama, window.tolist()) for window in windows])
        version = llama.version
    finally:
        llama.close()
    ours = transformers_nll(streamed_file(model_dir, path), windows)
    perplexity = np.exp(theirs.mean()), np.exp(ours.mean())
    log.info(
        "%s: perplexity %.4f in llama.cpp (%s), %.4f in transformers, %d windows of %d tokens, every position",
        *(name, perplexity[0], version, perplexity[1], *windows.shape),
    )
    checks.append(judge(name, "perplexity_difference", abs(perplexity[0] / perplexity[1] - 1), limit))
    return checks


def _generated(llama: LlamaCpp, prompt: list[int]) -> int:
    """Return the number of tokens that llama.cpp generates after ``prompt``, 0 where it fails."""
    try:
        return len(generate(llama, prompt, GENERATED_TOKENS))
    except LlamaCppError as error:
        log.error("%s", error)
        return 0
