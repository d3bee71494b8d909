"""Damage to files, drawn from a seed: bytes as a disk or a broken copy leaves them, and values of other types."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ramp.core.atomic_files import ITEMS, SEAL, write_json
from ramp.core.tensors import BLANK, seal
from ramp.core.tensors import SEAL as TENSORS_SEAL

Draw = np.random.Generator


def flip_bits(data: bytes, draw: Draw) -> bytes:
    """Turn over one to eight bits, half of the times near the beginning, where headers stand."""
    found = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        reach = min(len(found), 256) if draw.random() < 0.5 else len(found)
        found[int(draw.integers(reach))] ^= 1 << int(draw.integers(8))
    return bytes(found)


def cut(data: bytes, draw: Draw) -> bytes:
    """Keep the beginning alone, as a full disk or a broken connection does."""
    return data[: int(draw.integers(len(data)))]


def extend(data: bytes, draw: Draw) -> bytes:
    """Append random bytes."""
    return data + draw.bytes(int(draw.integers(1, 64)))


def zero(data: bytes, draw: Draw) -> bytes:
    """Put zeros in a stretch, as a loss of power does."""
    start = int(draw.integers(len(data)))
    length = int(draw.integers(1, max(2, len(data) // 4)))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def splice(data: bytes, draw: Draw) -> bytes:
    """Copy one stretch over another."""
    length = int(draw.integers(1, max(2, len(data) // 4)))
    source, target = (int(draw.integers(max(1, len(data) - length))) for _ in range(2))
    return data[:target] + data[source : source + length] + data[target + length :]


def drop(data: bytes, draw: Draw) -> bytes:
    """Leave a stretch out."""
    start = int(draw.integers(len(data)))
    return data[:start] + data[start + int(draw.integers(1, max(2, len(data) // 4))) :]


def huge_number(data: bytes, draw: Draw) -> bytes:
    """Put a large or negative little-endian number of eight bytes near the beginning."""
    value = int(draw.choice(np.array([2**62, 2**40, 2**31, 2**63 - 1, 1, 0], dtype=np.uint64)))
    if draw.random() < 0.3:
        value = 2**64 - 1
    start = int(draw.integers(min(len(data), 128)))
    return data[:start] + value.to_bytes(8, "little") + data[start + 8 :]


def words(data: bytes, draw: Draw) -> bytes:
    """Put text where something else stands."""
    text = draw.choice(["NaN", "-1", "1e999", "null", "\x00", "\ud7ff", "9" * 50, "[" * 30, '"', "é", "\r\n", ","])
    start = int(draw.integers(len(data) + 1))
    return data[:start] + str(text).encode() + data[start + int(draw.integers(4)) :]


BYTES: tuple[Callable[[bytes, Draw], bytes], ...] = (flip_bits, cut, extend, zero, splice, drop, huge_number, words)


def deep() -> Any:
    """Return a list in a list, and so on."""
    value: Any = 0
    for _ in range(400):
        value = [value]
    return value


ODD: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: "x",
    lambda: "",
    list,
    dict,
    lambda: -1,
    lambda: 0,
    lambda: 10**30,
    lambda: 1e308,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: "../../x",
    lambda: [None],
    lambda: {"x": {"y": []}},
    deep,
    lambda: "\ud800",
    lambda: -0.5,
    lambda: "9" * 400,
    lambda: 10**5000,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def changed_value(value: Any, draw: Draw) -> Any:
    """Return a copy with one value of another type, missing, doubled, or under another name."""
    value = copy.deepcopy(value)
    every = places(value)[1:]
    if not every:
        return ODD[int(draw.integers(len(ODD)))]()
    *above, key = every[int(draw.integers(len(every)))]
    holder = value
    for step in above:
        holder = holder[step]
    how = draw.random()
    if how < 0.55:
        holder[key] = ODD[int(draw.integers(len(ODD)))]()
    elif how < 0.75:
        del holder[key]
    elif how < 0.85 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif how < 0.95:
        if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder["more"] = copy.deepcopy(holder[key])
    else:
        return holder[key]
    return value


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    except ValueError:  # a number with more digits than Python writes
        return b'{"x": ' + b"9" * 5000 + b"}"


def damaged_json(path: Path, draw: Draw) -> str:
    """Change a value of a JSON file; half of the times with a new checksum, so that models meet it."""
    value = changed_value(json.loads(path.read_text(encoding="utf-8")), draw)
    if isinstance(value, dict) and SEAL in value and draw.random() < 0.5:
        value.pop(SEAL)
        try:
            write_json(path, value[ITEMS] if value.keys() == {ITEMS} else value, sealed=True)
            return "resealed"
        except (ValueError, TypeError):  # NaN and half characters, which no writer lets pass
            pass
    path.write_bytes(_dumped(value))
    return "value"


def damaged_lines(path: Path, draw: Draw) -> str:
    """Change a value of one line of a file of JSON lines, or the order of lines."""
    lines = path.read_bytes().splitlines()
    at = int(draw.integers(len(lines)))
    how = draw.random()
    if how < 0.6:
        lines[at] = _dumped(changed_value(json.loads(lines[at]), draw)).replace(b"\n", b" ")
    elif how < 0.75:
        del lines[at]
    elif how < 0.9:
        lines.append(lines[at])
    else:
        lines.reverse()
    path.write_bytes(b"\n".join(lines) + b"\n" * bool(lines))
    return "lines"


def damaged_yaml(path: Path, draw: Draw) -> str:
    """Change a value of a YAML file."""
    value = changed_value(yaml.safe_load(path.read_text(encoding="utf-8")), draw)
    try:
        text = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError):
        text = _dumped(value)
    path.write_bytes(text)
    return "value"


def damaged_tensors(path: Path, draw: Draw) -> str:
    """Change a value of the header of a safetensors file, with a new checksum: models of its metadata meet it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = header.get("__metadata__", {})
    if "ramp" in about:
        inner = changed_value(json.loads(about["ramp"]), draw)
        inner = {**inner, TENSORS_SEAL: BLANK} if isinstance(inner, dict) else inner
        about["ramp"] = _dumped(inner).decode("utf-8", "replace")
    else:
        name = next(name for name in header if name != "__metadata__")
        header[f"{name}x"] = header.pop(name)
        header["__metadata__"] = {TENSORS_SEAL: BLANK}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    try:
        seal(path)
    except AssertionError:  # no place for a checksum is left
        return "value"
    return "resealed"


def damaged_table(path: Path, draw: Draw) -> str:
    """Put a stray quote before a cell of a table: what follows is one cell, up to the end."""
    data = path.read_bytes()
    cells = [place + 1 for place, sign in enumerate(data) if sign in b",\n"]
    at = cells[int(draw.integers(len(cells)))]
    path.write_bytes(data[:at] + b'"' + data[at:])
    return "quote"


BY_ENDING = {
    ".safetensors": damaged_tensors,
    ".csv": damaged_table,
    ".json": damaged_json,
    ".jsonl": damaged_lines,
    ".yaml": damaged_yaml,
}


def damage(path: Path, draw: Draw) -> str:
    """Damage a file; return what was done."""
    data = path.read_bytes()
    structured = BY_ENDING.get(path.suffix)
    if structured and data.strip() and draw.random() < 0.6:
        return structured(path, draw)
    how = BYTES[int(draw.integers(len(BYTES)))]
    path.write_bytes(how(data, draw) if data else b"x")
    return how.__name__
