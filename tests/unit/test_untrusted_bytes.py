"""Bytes from outside that native code would follow: headers that promise too much, tables with wrong offsets."""

from __future__ import annotations

import gzip
import json
import random
import struct
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ramp.assets import arrow_table, disjoint_roles
from ramp.assets.arrow_table import UNREADABLE, read_stream
from ramp.assets.disjoint_roles import parse
from ramp.assets.fetched_files import FetchError, read_member
from ramp.assets.registry import TaskFile, TextRole
from ramp.assets.task_rows import TaskError, task_rows
from ramp.gguf_format.names import GgufError
from ramp.gguf_format.reader import GgufFile
from ramp.models.architecture import ModelError
from ramp.models.config_limits import check_limits
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.models.token_windows import TextError
from tests.local_sources import make_wheel
from tests.refusals import refused


def word(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def header(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def tensor(*shape: int, kind: int = 0, offset: int = 0) -> bytes:
    return header(1, 0) + word("t") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset) + b"\0" * 256


HOSTILE = {
    "1,099,511,627,776 keys": header(0, 2**40) + bytes(4096),
    "1,099,511,627,776 tensors": header(2**40, 0) + bytes(4096),
    "1,099,511,627,776 values": header(0, 1) + word("a") + struct.pack("<IIQ", 9, 0, 2**40) + bytes(4096),
    "3,000,000 values": header(0, 1) + word("a") + struct.pack("<IIQ", 9, 8, 3_000_000) + bytes(24_000_000),
    "array of type 9": header(0, 1) + word("a") + struct.pack("<IIQ", 9, 9, 1) + bytes(64),
    "value of type 77": header(0, 1) + word("a") + struct.pack("<I", 77) + bytes(64),
    "asks for 4,611,686,018,427,387,904 bytes": header(0, 1) + struct.pack("<Q", 2**62) + bytes(64),
    "general.alignment": header(0, 1) + word("general.alignment") + struct.pack("<II", 4, 0) + bytes(64),
    "ends beyond the file": tensor(2**62, 2**62),
    "has 33 dimensions": header(1, 0) + word("t") + struct.pack("<I", 33) + bytes(256),
    "type 999": tensor(32, kind=999),
    "within a block": tensor(31, kind=8),
    "does not begin": b"GGML" + bytes(64),
    "it is empty": b"",
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_header_stays_within_its_file(tmp_path: Path, words: str) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(HOSTILE[words])
    began = time.process_time()
    refused(GgufError, {words: partial(GgufFile, file)})
    assert time.process_time() - began < 5  # the package's own reader takes minutes, or hours


def sound(path: Path) -> bytes:
    """A file of one tensor, by the package's own writer."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_token_list(["a", "bc"])
    writer.add_tensor("t", np.arange(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_damaged_header_is_read_or_refused(tmp_path: Path) -> None:
    data, draw = sound(tmp_path / "a.gguf"), random.Random(0)
    assert GgufFile(tmp_path / "a.gguf").values("t").tolist() == list(range(64))
    refusals = 0
    for _ in range(150):
        changed = bytearray(data[: draw.randrange(len(data)) if draw.random() < 0.2 else None])
        for _ in range(draw.randrange(1, 4)):
            if changed:
                changed[draw.randrange(min(len(changed), 250))] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        (tmp_path / "b.gguf").write_bytes(changed)
        try:
            file = GgufFile(tmp_path / "b.gguf")
            for name in file.names():
                file.values(name)
        except GgufError:
            refusals += 1
    assert refusals > 50


def weights(length: int | None = None, **change: Any) -> bytes:
    """A safetensors file of four zeros, some of its header changed."""
    text = json.dumps({"t": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | change}).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(16)


@pytest.mark.parametrize(
    "data",
    [
        weights(length=2**60),
        weights(length=90_000_000),
        weights(length=10),
        weights(shape=[2**40]),
        weights(shape=[2**40], data_offsets=[0, 2**42]),
        weights(shape=[2**63, 2**63]),
        weights(data_offsets=[16, 0]),
        weights(dtype="F33"),
        weights()[:-1],
    ],
    ids=range(9),
)
def test_a_header_of_weights_stays_within_its_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(weights())
    assert CheckpointReader(tmp_path).get("t").tolist() == [0, 0, 0, 0]
    (tmp_path / "model.safetensors").write_bytes(data)
    refused(ModelError, {"model.safetensors": partial(CheckpointReader, tmp_path)})


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**8},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": "4"},
        {"hidden_size": 10**12},
        {"vocab_size": 1.5},
        {"head_dim": 0},
        {"num_attention_heads": True},
    ],
)
def test_a_configuration_beyond_any_model_is_refused_before_it_is_used(tmp_path: Path, change: dict[str, Any]) -> None:
    values = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "head_dim": None} | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    (key,) = change
    refused(ModelError, {f"config.json: {key}: ": lambda: ModelFolder(tmp_path).config})


def test_the_limits_take_every_published_size() -> None:
    check_limits(
        {"num_hidden_layers": 126, "hidden_size": 16384, "intermediate_size": 53248, "vocab_size": 262144}, "x"
    )


def stream() -> bytes:
    table = pyarrow.table({
        "a": ["x", "yy", None], "b": [[1], [], [2, 3]], "c": pyarrow.array(["p", "q", "p"]).dictionary_encode(),
    })  # fmt: skip
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_a_damaged_table_is_read_or_refused() -> None:
    data, draw = stream(), random.Random(0)
    assert read_stream(data).to_pylist()[1] == {"a": "yy", "b": [], "c": "q"}
    refusals = 0
    for _ in range(600):
        changed = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.choice((0, 1, 0x7F, 0xFF))
        try:
            read_stream(bytes(changed)).to_pylist()
        except UNREADABLE:
            refusals += 1
    assert refusals > 100


def test_offsets_beyond_a_column_are_found(tmp_path: Path) -> None:
    offsets = pyarrow.py_buffer(struct.pack("<4i", 0, 2**30, 2, 3))
    column = pyarrow.StringArray.from_buffers(3, offsets, pyarrow.py_buffer(b"abc"))
    sink = pyarrow.BufferOutputStream()
    batch = pyarrow.record_batch([column], names=["a"])
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    wheel = make_wheel(tmp_path, "rows", {"a.arrow": data, "a.gz": gzip.compress(b"x")[:-9], "b.gz": b"no gzip"})
    for member, form in {"a.arrow": "arrow", "a.gz": "boolq_requests", "b.gz": "arc_requests"}.items():
        task = TaskFile(format=form, member=member)  # type: ignore[arg-type]
        refused(TaskError, {f"{member} in rows": partial(task_rows, wheel, task)})


def test_a_damaged_wheel_gives_one_sentence(tmp_path: Path) -> None:
    """Every byte of a small wheel, changed in turn."""
    data = make_wheel(tmp_path, "rows", {"a.txt": b"content " * 8}).read_bytes()
    said = []
    for place in range(0, len(data), 3):
        (tmp_path / "b.whl").write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            b"".join(read_member(tmp_path / "b.whl", "a.txt"))
        except FetchError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not [sentence for sentence in said if "\n" in sentence]


def test_a_small_file_that_unpacks_to_any_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces: neither one line, nor all lines, nor a column that repeats one text, is ever whole in memory."""
    monkeypatch.setattr(disjoint_roles, "LARGEST_TEXT", 100_000)
    monkeypatch.setattr(disjoint_roles, "LARGEST_LINE", 50_000)
    monkeypatch.setattr(arrow_table, "LARGEST_COLUMN", 100_000)
    text = TextRole(format="jsonl", prefix="x")
    line = json.dumps({"text": "a" * 1000}) + "\n"
    for name, content in (("one", json.dumps({"text": "a" * 60_000})), ("many", line * 200)):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(gzip.compress(content.encode()))
        refused(TextError, {"100,000 characters": partial(parse, path, text)})
    path.write_bytes(gzip.compress((line * 3).encode()))
    assert len(parse(path, text)) == 3
    table = pyarrow.table({"text": ["a" * 1000] * 1000})
    pyarrow.parquet.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 5_000
    wikitext = TextRole(format="wikitext", prefix="x")
    refused(TextError, {"100,000 bytes": partial(parse, tmp_path / "bomb.parquet", wikitext)})
    pyarrow.parquet.write_table(table.slice(0, 3), tmp_path / "few.parquet")
    assert parse(tmp_path / "few.parquet", wikitext)[0].text.count("a" * 1000) == 3
