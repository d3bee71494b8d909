"""Text files of documents, and the windows of token ids that are cut from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.atomic_files import DamagedFile, parse_json, read_json, read_text, sha256_file, write_text
from ramp.core.errors import RampError

if TYPE_CHECKING:
    import torch


GUARD = "guard.json"
"""The file beside the texts with their checksums."""

JOIN = "\n\n"
"""The text between two documents when they are tokenized."""


class TextError(RampError):
    """A text is missing, too short, in another format, or shared between roles."""


@dataclass(frozen=True)
class Document:
    """One document; its identity is the hash of its text."""

    doc: str  # "wiki-8721554"
    text: str

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the UTF-8 text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


# --- files -------------------------------------------------------------------------------------------------------


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write one role, one JSON object per line."""
    rows = ({"doc": d.doc, "sha256": d.sha256, "text": d.text} for d in documents)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@dataclass(frozen=True)
class DocumentLine:
    """A line of a text."""

    doc: str
    sha256: str
    text: str


@dataclass(frozen=True)
class Guard:
    """Content of ``guard.json`` beside the texts, on their bytes."""

    sha256: dict[str, str]  # file -> of its bytes


def _check_listed(path: Path) -> None:
    """Raise ``TextError`` where ``guard.json`` beside a text lists another checksum, or does not list it.

    Lines carry checksums of their own; this finds lines that are missing, doubled or in another order.
    """
    guard = path.with_name(GUARD)
    if not guard.is_file() or not path.is_file():
        return
    again = "write the texts again with python -m ramp.assets.text_roles"
    if read_json(guard, Guard, sealed=True, again=again).sha256.get(path.name) != sha256_file(path):
        raise TextError(f"{path} is not the file that {guard} lists: {again}")


def read_documents(path: str | Path) -> list[Document]:
    """Return the documents of one role, each checked against its own sha256."""
    _check_listed(Path(path))
    *lines, rest = read_text(path, "text").split("\n")  # not splitlines: texts hold other separators
    if rest:
        raise TextError(f"{path} ends in the middle of a line: write the texts again with ramp.assets.text_roles")
    documents = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line, DocumentLine, "it")
            document = Document(row.doc, row.text)
            digest = document.sha256
        except DamagedFile as error:
            raise TextError(f"{path} line {number} is not a document ({error}): write the texts again") from None
        except UnicodeEncodeError:
            raise TextError(f"{path} line {number} holds half a surrogate pair, which is no character") from None
        if row.sha256 != digest:
            raise TextError(f"{path} line {number} was changed after it was written: write the texts again")
        documents.append(document)
    return documents


# --- tokens ------------------------------------------------------------------------------------------------------


def token_windows(
    tokenizer: Any, path: str | Path, *, length: int, count: int | None, spread: bool = True, draw: int = 0
) -> torch.LongTensor:
    """Return windows of token ids, int64 [count, length], that do not overlap.

    The documents are joined by two newlines and tokenized once, without special tokens. ``spread`` takes
    windows at even distances over the whole text, from its first to its last token; otherwise they are its
    beginning, side by side. ``count`` None takes all that fit. Raises ``TextError`` with how many were available.

    A ``draw`` above 0 seeds a generator that shuffles the documents, and then takes one window at a random place in
    each of ``count`` equal stretches of the shuffled text: other documents, in another order.
    """
    import numpy as np
    import torch

    if length < 1 or (count is not None and count < 1):
        raise TextError(f"windows of {length} tokens, {count} of them, hold nothing: ask for at least one of each")
    if draw < 0:
        raise TextError(f"draw {draw} is no seed: use 0 for the windows as they stand, or a number above it")
    documents = read_documents(path)
    rng = np.random.default_rng(draw)
    if draw:
        documents = [documents[i] for i in rng.permutation(len(documents))]
    text = JOIN.join(document.text for document in documents)
    try:
        tokens = np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)
    except TypeError as error:  # a value of another type in tokenizer_config.json shows here first
        raise TextError(f"the tokenizer cannot read {path} ({error}): fetch its tokenizer_config.json again") from None
    available = len(tokens) // length
    wanted = available if count is None else count
    if wanted > available or wanted == 0:
        raise TextError(
            f"{path} has {len(tokens)} tokens, enough for {available} windows of {length} where {count or 'some'} are "
            "wanted: ask for fewer or shorter windows"
        )
    if draw:
        stretch = len(tokens) // wanted  # at least `length`
        starts = [i * stretch + int(place) for i, place in enumerate(rng.integers(0, stretch - length + 1, wanted))]
    elif spread and wanted > 1:
        starts = [i * (len(tokens) - length) // (wanted - 1) for i in range(wanted)]  # at least `length` apart
    else:
        starts = [i * length for i in range(wanted)]
    windows = np.stack([tokens[start : start + length] for start in starts])  # (count, length)
    return torch.from_numpy(windows)  # type: ignore[return-value]  # int64, which torch does not type


def check_windows(windows: torch.Tensor, config: Any, least: int = 1) -> torch.Tensor:
    """Return ``windows`` if they are int64 [count, length >= least] within the model's context and vocabulary.

    Raises ``TextError``.
    """
    if windows.dim() != 2 or not windows.numel() or windows.shape[1] < least:
        raise TextError(
            f"windows of shape {list(windows.shape)} hold nothing to read, lengths of at least {least} are needed: "
            "the text is empty or too short"
        )
    if windows.shape[1] > config.max_position_embeddings:
        raise TextError(
            f"windows of {windows.shape[1]} tokens exceed the model's context of {config.max_position_embeddings}: "
            "shorten --length"
        )
    if int(windows.min()) < 0 or int(windows.max()) >= config.vocab_size:
        raise outside(int(windows.max()), config)
    return windows


def outside(token: int, config: Any) -> TextError:
    """Return the error for a token that the model does not have."""
    return TextError(
        f"token {token} is outside the model's vocabulary of {config.vocab_size}: tokenizer and model do not belong "
        "together"
    )
