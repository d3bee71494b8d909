"""Is the GGUF file what was planned, and does stock llama.cpp compute with it what transformers computes?

Each check is a record ``{file, check, value, limit, ok}``. Checks named ``*_differ``, ``*_missing`` or
``*_difference`` pass at or below their limit, ``loads`` and ``generated_tokens`` at or above it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.export.llamacpp import LlamaCpp, LlamaCppError, LoadError, generate, open_llama, window_nll
from ramp.gguf.names import HaloError
from ramp.gguf.reader import GgufFile, load_gguf_float
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    import torch

log = logging.getLogger("ramp.export.halo")

GENERATED_TOKENS = 8
PROMPT_TOKENS = 8

PROBES = (
    "Hello world!",
    "In 2024, 365 days cost $1,234.56 (about 99%).",
    "It's what we've said: don't, won't, they'll...",
    "two  spaces, three   spaces and a trailing one ",
    "line one\nline two\n\nline four\tand a tab",
    "naïve café, Ω ≈ 3.5 kΩ, 東京, 🙂",
)
"""Texts on which tokenizers tend to disagree: digits, contractions, runs of spaces, line breaks, other scripts."""

SAMPLE_LINES = 40


def record(file: str, check: str, value: float, limit: float, *, at_least: bool = False) -> dict[str, Any]:
    """One check: ``value`` is to stay at or below ``limit``, or at or above it."""
    ok = value >= limit if at_least else value <= limit
    return {"file": file, "check": check, "value": float(value), "limit": float(limit), "ok": bool(ok)}


def check_layout(path: Path, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the file on disk with the plan: every tensor, its type, shape, bytes, and the size of the file."""
    file = GgufFile(path)
    planned = {tensor["name"]: tensor for tensor in plan["tensors"]}
    found = set(file.names())
    both = [planned[name] for name in planned if name in found]
    raw = {tensor["name"]: file.raw(tensor["name"]) for tensor in both}
    counts = {
        "tensors_missing": len(set(planned) - found),
        "tensors_unplanned": len(found - set(planned)),
        "types_differ": sum(file.type(tensor["name"]) != tensor["type"] for tensor in both),
        "shapes_differ": sum(list(file.shape(tensor["name"])) != list(tensor["shape"]) for tensor in both),
        "bytes_differ": sum(raw[tensor["name"]].nbytes != tensor["bytes"] for tensor in both),
        "contents_differ": sum(
            hashlib.sha256(raw[tensor["name"]].data).hexdigest() != tensor["sha256"] for tensor in both
        ),
        "file_bytes_differ": abs(path.stat().st_size - plan["sizes"]["bytes_file"]),
    }
    return [record(path.name, check, value, 0) for check, value in counts.items()]


def sample_texts(text_path: str | Path) -> list[str]:
    """The probes and the first lines of a role's documents."""
    from ramp.models.text import read_documents

    lines = [line for document in read_documents(text_path) for line in document.text.splitlines() if line.strip()]
    return [*PROBES, *lines[:SAMPLE_LINES]]


def tokenizer_differences(llama: LlamaCpp, tokenizer: Any, texts: list[str]) -> int:
    """In how many texts llama.cpp's token ids differ from the checkpoint's tokenizer's, begin and end tokens included.

    Characters that the vocabulary cannot express are dropped first: where it has no byte tokens, llama.cpp refuses
    them and the tokenizer calls them unknown.
    """
    unknown = tokenizer.unk_token_id
    different = 0
    for text in texts:
        if unknown in tokenizer(text).input_ids:
            text = "".join(x for x in text if unknown not in tokenizer(x, add_special_tokens=False).input_ids)
        ours, theirs = tokenizer(text).input_ids, llama.tokenize(text, special=True)
        if ours != theirs:
            different += 1
            log.warning("tokens differ on %r: %s in llama.cpp, %s here", text[:60], theirs[:12], ours[:12])
    return different


def transformers_nll(model: Any, windows: torch.Tensor) -> np.ndarray:
    """Negative log-likelihood of every token but each window's first, nats, float64 [windows, length - 1]."""
    import torch

    rows = []
    with torch.inference_mode():
        for window in windows:  # [length]
            logits = model(window[None].to(model.device)).logits[0, :-1].double()  # [length - 1, vocab]
            rows.append(torch.nn.functional.cross_entropy(logits, window[1:].to(logits.device), reduction="none"))
    return torch.stack(rows).cpu().numpy()


def check_llama(
    path: Path,
    model_dir: str | Path,
    windows: torch.Tensor,
    texts: list[str],
    limit: float,
    *,
    threads: int = 2,
    backend: str = "cyllama",
) -> list[dict[str, Any]]:
    """Load the file in llama.cpp, generate, tokenize, and compare perplexity on ``windows`` (int64 [n, length]).

    Both sides read the same token ids, every position is scored, and transformers computes in float32 with the very
    tensors of the file. A file that llama.cpp refuses is a failed check, not an error; llama.cpp missing is an error.
    """
    name, length = path.name, windows.shape[1]
    try:
        llama = open_llama(path, context=length, threads=threads, backend=backend)
    except LoadError as error:
        log.error("%s", error)
        return [record(name, "loads", 0, 1, at_least=True)]
    checks = [record(name, "loads", 1, 1, at_least=True)]
    try:
        prompt = windows[0, :PROMPT_TOKENS].tolist()
        checks.append(record(name, "generated_tokens", _generated(llama, prompt), GENERATED_TOKENS, at_least=True))
        tokenizer = ModelFolder(model_dir).tokenizer()
        checks.append(record(name, "tokenizer_differs", tokenizer_differences(llama, tokenizer, texts), 0))
        theirs = np.stack([window_nll(llama, window.tolist()) for window in windows])
        version = llama.version
    finally:
        llama.close()
    ours = transformers_nll(load_gguf_float(model_dir, path), windows)
    perplexity = np.exp(theirs.mean()), np.exp(ours.mean())
    log.info(
        "%s: perplexity %.4f in llama.cpp (%s), %.4f in transformers, %d windows of %d tokens, every position",
        *(name, perplexity[0], version, perplexity[1], *windows.shape),
    )
    checks.append(record(name, "perplexity_difference", abs(perplexity[0] / perplexity[1] - 1), limit))
    return checks


def _generated(llama: LlamaCpp, prompt: list[int]) -> int:
    """How many tokens llama.cpp generates after ``prompt``, of the number asked for."""
    try:
        return len(generate(llama, prompt, GENERATED_TOKENS))
    except LlamaCppError as error:
        log.error("%s", error)
        return 0


def token_windows_of(model_dir: str | Path, text_path: str | Path, length: int, count: int) -> torch.Tensor:
    """``count`` windows of a role's text, [count, length], no longer than the model's context."""
    from ramp.models.text import token_windows

    model = ModelFolder(model_dir)
    context = model.config.max_position_embeddings
    if length > context:
        log.info("windows of %d tokens: the model's context is %d", length, context)
    if min(length, context) < PROMPT_TOKENS + GENERATED_TOKENS:
        raise HaloError(f"windows of {length} tokens are too short to generate in: use at least 16")
    return token_windows(model.tokenizer(), text_path, length=min(length, context), count=count)
