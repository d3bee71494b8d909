"""Texts read from fetched files, a role for every document, and the proof that roles are disjoint."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ramp.assets.arrow_table import UNREADABLE, read_parquet
from ramp.assets.fetched_files import asset_path
from ramp.assets.options import ROLES
from ramp.assets.registry import Registry, TextRole
from ramp.core.atomic_files import not_utf8, read_text, sha256_file, write_json
from ramp.models.token_windows import GUARD, JOIN, Document, TextError, read_documents, write_documents

SHARED_PARAGRAPH = 80
"""Paragraphs of at least this many normalised characters must not occur in two roles; shorter ones are headings."""

LARGEST_TEXT, LARGEST_LINE = 2**32, 2**28
"""Characters of a text as it is read, which a small compressed file may hold any number of, and of one document."""


# --- reading the sources -----------------------------------------------------------------------------------------


def parse(path: Path, text: TextRole) -> list[Document]:
    """Return the documents of a fetched file, in order, without empty ones; at most ``text.documents``."""
    if text.format == "wikitext":
        return [Document(f"{text.prefix}-0", _wikitext(path))]
    if text.format == "jsonl":
        found = _json_lines(path, text.prefix)
    elif text.format in ("plain", "lines"):
        whole = read_text(path)
        lines = re.split(r"\n\s*\n", whole) if text.format == "plain" else whole.splitlines()
        found = (Document(f"{text.prefix}-{i:05d}", line.strip()) for i, line in enumerate(lines))
    else:
        pages = re.findall(r'^<doc id="([^"]*)"[^>]*>\n(.*?)^</doc>', read_text(path), flags=re.DOTALL | re.MULTILINE)
        pairs = (Document(f"{text.prefix}-{page}", body.strip()) for page, body in pages)
        found = (document for document in pairs if "\n" in document.text)  # a title alone is a redirection
    documents = list(islice((document for document in found if document.text), text.documents))
    if not documents:
        raise TextError(f"{path} holds no document in the format '{text.format}': give a text with one at least")
    return documents


def _json_lines(path: Path, prefix: str) -> Iterator[Document]:
    """Yield the member ``text`` of every line of a file, which may be compressed by gzip (``.gz``)."""
    opened, done = gzip.open if path.suffix == ".gz" else open, 0
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            for done, line in enumerate(_bounded(lines), start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not (isinstance(row, dict) and isinstance(row.get("text"), str)):
                    raise ValueError("this one is another value")
                row["text"].encode()  # half a surrogate pair cannot be
                yield Document(f"{prefix}-{done - 1:05d}", row["text"].strip())
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    except UNREADABLE as error:
        raise TextError(
            f"{path}, line {max(1, done)}: each line should be a JSON object with its text under 'text' "
            f"({' '.join(str(error).split())[:120]}): correct the file, or get it again"
        ) from None


def _bounded(lines: IO[str]) -> Iterator[str]:
    """Yield the lines of a text; ``ValueError`` where one, or all together, are larger than any text."""
    total = 0
    while line := lines.readline(LARGEST_LINE):
        total += len(line)
        if total > LARGEST_TEXT or len(line) == LARGEST_LINE:
            raise ValueError(f"it holds more than {LARGEST_TEXT:,} characters, or {LARGEST_LINE:,} in one line")
        yield line


def _wikitext(path: Path) -> str:
    """Return the test set as one text, its rows joined by two newlines, blank rows empty.

    This is the convention of GPTQ's ``datautils.get_wikitext2`` (github.com/IST-DASLab/gptq): perplexities on
    WikiText-2 are comparable between papers that follow it.
    """
    if path.suffix == ".parquet":
        try:
            return JOIN.join(read_parquet(path, "text"))
        except UNREADABLE as error:
            raise TextError(f"{path} is no table with a column 'text' ({error!r}): fetch it again") from None
    lines = read_text(path).split("\n")
    return JOIN.join(line + "\n" if line.strip() else "" for line in lines[: -1 if not lines[-1] else None])


# --- roles -------------------------------------------------------------------------------------------------------


def role_of(document: Document, shares: Mapping[str, float]) -> str:
    """Return the role of a document: its hash, as a number in [0, 1), against the summed shares in their order."""
    draw = int(document.sha256[:13], 16) / 16**13  # 52 bits: exact in a float
    total = 0.0
    for role, share in shares.items():
        total += share
        if draw < total:
            return role
    return next(reversed(list(shares)))  # shares that sum to 1 - 1e-17


def paragraphs(text: str) -> list[str]:
    """Return the normalised paragraphs that are long enough to prove a common origin.

    Normalised: Unicode NFKC, case folded, words joined by one blank, so that WikiText's ``@-@`` and
    detached punctuation compare equal to plain text.
    """
    keys = (" ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", line).casefold())) for line in text.split("\n"))
    return [key for key in keys if len(key) >= SHARED_PARAGRAPH]


def assign(corpora: Iterable[tuple[list[Document], Mapping[str, float]]]) -> dict[str, list[Document]]:
    """Return documents by role; a text that occurs twice is kept once."""
    roles: dict[str, list[Document]] = {role: [] for role in ROLES}  # one that no text has is an empty file
    seen: set[str] = set()
    for documents, shares in corpora:
        for document in documents:
            if document.sha256 not in seen:
                seen.add(document.sha256)
                roles[role_of(document, shares)].append(document)
    return roles


def drop_shared(
    roles: Mapping[str, list[Document]], tests: Mapping[str, list[Document]]
) -> tuple[dict[str, list[Document]], int]:
    """Return ``roles`` without paragraphs that occur in another role or a test text, and how many were dropped.

    A shared paragraph leaves every role. Test texts are not changed, so that scores stay comparable.
    """
    owners: dict[str, set[str]] = {}
    for role, documents in [*roles.items(), *tests.items()]:
        for document in documents:
            for key in paragraphs(document.text):
                owners.setdefault(key, set()).add(role)
    shared = {key for key, found in owners.items() if len(found) > 1}
    dropped = 0
    cleaned: dict[str, list[Document]] = {}
    for role, documents in roles.items():
        cleaned[role] = []
        for document in documents:
            lines = document.text.split("\n")
            kept = [line for line in lines if not shared.intersection(paragraphs(line))]
            dropped += len(lines) - len(kept)
            if text := "\n".join(kept).strip():
                cleaned[role].append(replace(document, text=text))
    return cleaned, dropped


def guard(roles: Mapping[str, Sequence[Document]]) -> dict[str, Any]:
    """Prove that no two roles share a document or a long paragraph; raise ``TextError`` with the first that do.

    Returns ``{role: {"documents", "paragraphs", "characters"}}``, paragraphs counted as compared.
    """
    owners: dict[str, tuple[str, str]] = {}
    counts = {}
    for role, documents in roles.items():
        compared: set[str] = set()
        for document in documents:
            keys = paragraphs(document.text)
            compared.update(keys)
            for what, key in [("its text", document.sha256), *(("a paragraph", key) for key in keys)]:
                owner, other = owners.setdefault(key, (role, document.doc))
                if owner != role:
                    raise TextError(
                        f"document {document.doc} of role '{role}' shares {what} with {other} of '{owner}' "
                        f"({key[:40]}): write the texts again with python -m ramp.assets.text_roles"
                    )
        characters = sum(len(document.text) for document in documents)
        counts[role] = {"documents": len(documents), "paragraphs": len(compared), "characters": characters}
    return counts


def text_of(registry: Registry, name: str) -> TextRole:
    """Return the entry of a text asset; raise ``TextError`` where the name is of something else."""
    asset = registry.get(name)
    if asset.text is None:
        raise TextError(f"asset '{name}' is of type {asset.type}: name a text")
    return asset.text


def shares_of(registry: Registry, named: Mapping[str, str], unread: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Return text asset -> share of each role: those of the registry, and texts that give a role all they have.

    named: role -> text asset; the registry's texts lose their documents of that role. A text that is named for several
        roles is divided among them, in equal shares of its documents.
    unread: roles that the study does not read; a text of the registry that has no others is left out.

    Raises:
        RampError: an asset is named that is no text, or has roles of its own.
    """
    shares = {}
    for name, asset in registry.of_type("text").items():
        if asset.text and any(role not in (*named, *unread) for role in asset.text.roles):
            shares[name] = {str(role): share for role, share in asset.text.roles.items()}
    for role, name in named.items():
        text_of(registry, name)
        if name in shares:
            raise TextError(f"texts.{role}: asset '{name}' has roles of its own: change its `roles:` in the registry")
    for name in dict.fromkeys(named.values()):
        own = [role for role in named if named[role] == name]
        shares[name] = dict.fromkeys(own, 1 / len(own))
    return shares


def write_texts(
    registry: Registry,
    assets: Path,
    extra: Sequence[str],
    out_dir: Path,
    named: Mapping[str, str] | None = None,
    unread: Sequence[str] = (),
) -> dict[str, Any]:
    """Write every role of the registry's texts and the ``extra`` test texts; return the content of guard.json.

    ``named`` and ``unread``: see ``shares_of``; a role without any text becomes an empty file.
    """
    named = named or {}
    corpora: list[tuple[list[Document], Mapping[str, float]]] = []
    for name, shares in shares_of(registry, named, unread).items():
        documents = parse(asset_path(assets, name), text_of(registry, name))
        if name not in named.values():
            documents = [document for document in documents if role_of(document, shares) not in named]
        corpora.append((documents, shares))
    tests: dict[str, list[Document]] = {}
    for name in extra:
        text = text_of(registry, name)
        if text.roles:
            raise TextError(f"asset '{name}' is not a test text: --extra takes texts without roles")
        tests[name] = parse(asset_path(assets, name), text)
    given = assign(corpora)
    roles, dropped = drop_shared({role: given.get(role, []) for role in ROLES}, tests)
    (out_dir / GUARD).unlink(missing_ok=True)
    for role, documents in {**roles, **tests}.items():
        write_documents(out_dir / f"{role}.jsonl", documents)
    written = {role: read_documents(out_dir / f"{role}.jsonl") for role in [*roles, *tests]}
    report = {
        "roles": guard(written),
        "paragraphs_dropped": dropped,
        "sha256": {f"{role}.jsonl": sha256_file(out_dir / f"{role}.jsonl") for role in written},
        "rule": f"no document and no paragraph of {SHARED_PARAGRAPH} or more normalised characters in two roles",
    }
    write_json(out_dir / GUARD, report, sealed=True)
    return report
