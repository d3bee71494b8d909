"""Roles of documents, the guard that proves them disjoint, and windows of tokens."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.assets.disjoint_roles import assign, drop_shared, guard, paragraphs, parse, role_of, shares_of, write_texts
from ramp.assets.registry import Asset, PathSource, TextRole, load_registry
from ramp.core.errors import RampError
from ramp.models.token_windows import JOIN, Document, read_documents, token_windows, write_documents
from tests.local_sources import fetched
from tests.refusals import refused
from tests.sealed import read_json

SHARES = {"train": 0.5, "search": 0.1, "selection": 0.1, "heldout": 0.3}
LONG = "A sentence that is long enough to be recognised when it stands in two documents, word by word, twice."


class Letters:
    """A tokenizer whose tokens are code points: windows can be checked by slicing the text."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def words(index: int, count: int = 30) -> str:
    return " ".join(f"w{index}x{i}" for i in range(count))


def test_roles_follow_the_hash_and_the_shares() -> None:
    documents = [Document(f"d-{i}", words(i)) for i in range(4000)]
    roles = assign([(documents, SHARES)])
    assert sum(len(found) for found in roles.values()) == 4000
    for role, share in SHARES.items():
        assert len(roles[role]) / 4000 == pytest.approx(share, abs=0.03)
    again = assign([(list(reversed(documents)), SHARES)])
    for role, found in roles.items():  # neither order nor name of a document decides
        assert {d.text for d in found} == {d.text for d in again[role]}


@given(st.text(min_size=1))
def test_every_text_has_exactly_one_role(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    role = role_of(Document("a", text), SHARES)
    assert role in SHARES
    assert role_of(Document("another name", text), SHARES) == role
    assert role_of(Document("a", text), {"calibration": 1.0}) == "calibration"


def test_normalised_paragraphs_see_through_wikitext_and_case() -> None:
    plain = "It took a co-starring role in Smith's 1,000-page adaptation of the well-known play, as told by critics."
    wikitext = (
        " It took a co @-@ starring role in Smith 's 1 @,@ 000 @-@ page adaptation of the WELL @-@ known play , "
        "as told by critics . "
    )
    assert paragraphs(plain) == paragraphs(wikitext)
    assert len(paragraphs(plain)) == 1
    assert paragraphs("Early life.\nshort") == []


def test_guard_counts_and_refuses() -> None:
    first, second = Document("a-0", words(0)), Document("a-1", words(1) + "\n" + LONG)
    counts = guard({"train": [first], "heldout": [second]})
    assert counts["heldout"] == {"documents": 1, "paragraphs": 2, "characters": len(second.text)}
    copy, shared = Document("a-9", first.text), Document("a-9", "Other\n" + LONG.upper())
    calls = {
        "a-9 of role 'heldout' shares its text with a-0": lambda: guard({"train": [first], "heldout": [second, copy]}),
        "a paragraph with a-1 of 'heldout'": lambda: guard({"heldout": [second], "search": [shared]}),
    }
    refused(RampError, calls)
    guard({"train": [first, first], "heldout": [second]})  # within one role nothing is forbidden


def test_shared_paragraphs_are_dropped_from_roles_and_not_from_tests() -> None:
    roles = {
        "train": [Document("a", f"Title\n{LONG}\n{words(1)}")],
        "search": [Document("b", f"{words(2)}\n{LONG}")],
        "heldout": [Document("c", words(3)), Document("d", words(4))],
    }
    tests = {"wikitext2": [Document("w", words(3) + "\n" + words(9))]}
    cleaned, dropped = drop_shared(roles, tests)
    assert dropped == 3
    assert cleaned["train"][0].text == f"Title\n{words(1)}"
    assert cleaned["search"][0].text == words(2)
    assert [document.doc for document in cleaned["heldout"]] == ["d"]
    with pytest.raises(RampError, match="paragraph"):
        guard({**roles, **tests})
    guard({**cleaned, **tests})


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), min_size=1, max_size=20))
def test_what_is_written_always_passes_the_guard(pages: list[list[int]]) -> None:
    documents = [Document(f"d-{i}", "\n".join(words(p) for p in page)) for i, page in enumerate(pages)]
    cleaned, _ = drop_shared(assign([(documents, SHARES)]), {"test": [Document("t", words(0))]})
    guard({**cleaned, "test": [Document("t", words(0))]})
    kept = {line for found in cleaned.values() for document in found for line in document.text.split("\n")}
    assert words(0) not in kept


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A registry with two corpora and two test texts, fetched."""
    pages = [f'<doc id="{i}" url="u" title="Page {i}">\nPage {i}\n\n{words(i)}\n</doc>\n' for i in range(60)] + [
        '<doc id="99" url="u" title="Only a title">\nOnly a title\n</doc>\n'
    ]
    (tmp_path / "wiki.txt").write_text("".join(pages))
    (tmp_path / "c4.txt").write_text("\n".join([*(words(1000 + i) for i in range(5)), "", words(1000)]) + "\n")
    (tmp_path / "test.raw").write_text(f" \n = Title = \n \n {words(7)} . \n")

    def text(path: str, **entry: Any) -> dict[str, Any]:
        return {"type": "text", "licence": "x", "sources": [{"kind": "path", "path": path}], "text": entry}

    assets = {
        "c4": text("c4.txt", format="lines", prefix="c4", roles={"calibration": 1.0}),
        "wiki": text("wiki.txt", format="wikipedia", prefix="wiki", roles=SHARES),
        "wikitext2": text("test.raw", format="wikitext", prefix="wikitext2"),
    }
    (tmp_path / "assets.yaml").write_text(yaml.safe_dump({"assets": assets}, sort_keys=False))
    registry = load_registry(tmp_path / "assets.yaml")
    for name in ("c4", "wiki", "wikitext2"):
        fetched(registry, name, tmp_path)
    return tmp_path


def test_texts_of_a_registry(project: Path) -> None:
    registry = load_registry(project / "assets.yaml")
    report = write_texts(registry, project / "R", ["wikitext2"], project / "texts")
    assert read_json(project / "texts" / "guard.json") == report
    assert report["roles"]["calibration"]["documents"] == 5  # the empty line and the repeated one are gone
    wiki = [d for role in SHARES for d in read_documents(project / "texts" / f"{role}.jsonl")]
    assert sorted(d.doc for d in wiki) == sorted(f"wiki-{i}" for i in range(60))  # the bare title is gone
    assert report["paragraphs_dropped"] == 1  # page 7 shares its paragraph with the test text
    assert words(7) not in "".join(d.text for d in wiki)
    before = {file.name: file.read_bytes() for file in (project / "texts").iterdir()}
    write_texts(registry, project / "R", ["wikitext2"], project / "texts")
    assert before == {file.name: file.read_bytes() for file in (project / "texts").iterdir()}


def test_wikitext_is_joined_as_gptq_does(project: Path) -> None:
    """Raw file and parquet rows (blank rows empty, others with their newline) give one and the same text."""
    import pyarrow
    import pyarrow.parquet

    role = load_registry(project / "assets.yaml").get("wikitext2").text
    assert role is not None
    rows = ["", " = Title = \n", "", f" {words(7)} . \n"]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), project / "test.parquet")
    assert parse(project / "test.raw", role)[0].text == JOIN.join(rows)
    assert parse(project / "test.parquet", role)[0].text == JOIN.join(rows)


def test_extra_must_be_a_test_text(project: Path) -> None:
    registry = load_registry(project / "assets.yaml")
    write = partial(write_texts, registry, project / "R", out_dir=project / "texts")
    refused(RampError, {f"'{name}'": partial(write, [name]) for name in ("c4", "wikitext3")})


def test_a_study_gives_a_role_another_text(project: Path) -> None:
    registry = load_registry(project / "assets.yaml")
    rows = "".join(json.dumps({"text": words(2000 + i), "url": "u"}) + "\n" for i in range(9))
    (project / "own.json.gz").write_bytes(gzip.compress(rows.encode()))
    entry = TextRole(format="jsonl", prefix="own", documents=6)
    own = Asset(type="text", licence="x", sources=(PathSource(kind="path", path="own.json.gz"),), text=entry)
    registry = registry.model_copy(update={"assets": {**registry.assets, "own": own}})
    fetched(registry, "own", project)
    write_texts(registry, project / "R", [], project / "texts", {"calibration": "own"})
    calibration = read_documents(project / "texts" / "calibration.jsonl")
    assert [d.doc for d in calibration] == [f"own-{i:05d}" for i in range(6)]  # no document of c4
    write_texts(registry, project / "R", [], project / "texts", {"search": "own"})
    assert {d.doc.split("-")[0] for d in read_documents(project / "texts" / "search.jsonl")} == {"own"}
    wiki = [d for role in SHARES if role != "search" for d in read_documents(project / "texts" / f"{role}.jsonl")]
    assert 0 < len(wiki) < 60  # those that were for the search are in no role
    assert "c4" not in shares_of(registry, {"calibration": "own"})  # nothing of it is read
    halves = {"calibration": 0.5, "search": 0.5}
    assert shares_of(registry, {"calibration": "own", "search": "own"})["own"] == halves  # divided among its roles
    refused(RampError, {"roles of its own": partial(shares_of, registry, {"search": "wiki"})})
    (project / "own.json.gz").write_bytes(gzip.compress(rows.encode())[:-20])
    refused(RampError, {"own.json.gz": partial(parse, project / "own.json.gz", TextRole(format="jsonl", prefix="o"))})


def test_changed_or_broken_documents_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    write_documents(file, [Document("a", "one\u2028line"), Document("b", "two")])
    assert [d.text for d in read_documents(file)] == ["one\u2028line", "two"]
    file.write_text(file.read_text().replace("two", "too"))
    refused(RampError, {"line 2 was changed": lambda: read_documents(file)})
    file.write_text(file.read_text()[:-1])
    refused(RampError, {"middle of a line": lambda: read_documents(file)})
    file.write_text('{"doc": "a"\n')
    calls = {"line 1": lambda: read_documents(file), "no text": lambda: read_documents(tmp_path / "none.jsonl")}
    refused(RampError, calls)


def test_texts_of_other_encodings(tmp_path: Path) -> None:
    """Not UTF-8, half a surrogate pair, a folder: one sentence with the file; a byte order mark is not text."""
    document, file = Document("a", "naïve\nFüße"), tmp_path / "a.jsonl"
    write_documents(file, [document])
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole, encoding="utf-8-sig")
    assert read_documents(file) == [document]
    plain = TextRole(format="lines", prefix="t")
    (tmp_path / "marked.txt").write_text("Füße", encoding="utf-8-sig")
    assert [found.text for found in parse(tmp_path / "marked.txt", plain)] == ["Füße"]
    (tmp_path / "latin.jsonl").write_text(whole, encoding="latin-1")
    (tmp_path / "latin.txt").write_text("Füße", encoding="latin-1")
    half = {"doc": "a", "sha256": "0" * 64, "text": "half \ud83d"}
    (tmp_path / "half.jsonl").write_text(json.dumps(half) + "\n")
    calls = {
        "latin.jsonl is not UTF-8": lambda: read_documents(tmp_path / "latin.jsonl"),
        "latin.txt is not UTF-8 (byte 1 is 0xfc)": lambda: parse(tmp_path / "latin.txt", plain),
        "half.jsonl line 1": lambda: read_documents(tmp_path / "half.jsonl"),
        "is a folder": lambda: read_documents(tmp_path),
    }
    refused(RampError, calls)


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def text_file(tmp_path: Path) -> tuple[Path, str]:
    documents = [Document(f"d-{i}", words(i, 10)) for i in range(6)]
    write_documents(tmp_path / "t.jsonl", documents)
    return tmp_path / "t.jsonl", JOIN.join(document.text for document in documents)


def test_windows_are_slices_of_the_joined_text(text_file: tuple[Path, str]) -> None:
    path, text = text_file
    windows = token_windows(Letters(), path, length=7, count=5)
    assert windows.shape == (5, 7)
    assert windows.dtype == torch.int64
    found = ["".join(map(chr, window)) for window in windows.tolist()]
    assert all(window in text for window in found)
    assert text.startswith(found[0])
    assert text.endswith(found[-1])
    side_by_side = token_windows(Letters(), path, length=7, count=5, spread=False)
    assert "".join(map(chr, side_by_side.flatten().tolist())) == text[:35]
    everything = token_windows(Letters(), path, length=7, count=None, spread=False)
    assert "".join(map(chr, everything.flatten().tolist())) == text[: len(text) // 7 * 7]


def test_too_few_tokens_say_how_many_there_are(text_file: tuple[Path, str]) -> None:
    path, text = text_file
    available = len(text) // 50
    asked = {f"{available} windows of 50": (50, available + 1), "0 windows": (10_000, None), "nothing": (0, 1)}
    for words, (length, count) in asked.items():
        refused(RampError, {words: partial(token_windows, Letters(), path, length=length, count=count)})


@settings(max_examples=100)
@given(tokens=st.integers(1, 300), length=st.integers(1, 40), share=st.floats(0, 1))
def test_spread_windows_never_overlap(tmp_path_factory: Any, tokens: int, length: int, share: float) -> None:
    available = tokens // length
    if available == 0:
        return
    path = tmp_path_factory.mktemp("w") / "t.jsonl"
    write_documents(path, [Document("a", "".join(chr(0x4E00 + i) for i in range(tokens)))])
    count = 1 + round(share * (available - 1))
    windows = token_windows(Letters(), path, length=length, count=count)
    flat = windows.flatten().tolist()
    assert len(set(flat)) == count * length  # every token is another one
    assert flat == sorted(flat)
    if count > 1:
        assert flat[-1] == 0x4E00 + tokens - 1
