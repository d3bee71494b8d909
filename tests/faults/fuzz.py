"""Read many damaged files in a forked process, which is watched: it may crash or hang without an end to the work."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import pickle
import resource
import select
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core import tensors
from ramp.core.errors import RampError
from ramp.core.faults import sentence
from tests.faults.counts import Counts
from tests.faults.mutations import damage
from tests.faults.readers import Reader

HANG_S = 30.0
MEMORY_BYTES = 12 << 30


def fingerprint(value: Any) -> str:
    """Return a digest of what a reader returned, tensors by their bytes."""
    digest = hashlib.sha256()

    def add(each: Any) -> None:
        if hasattr(each, "detach"):
            each = each.detach().cpu()
            each = each.float().numpy() if each.is_floating_point() else each.numpy()
        if isinstance(each, np.ndarray):
            digest.update(f"{each.dtype}{each.shape}".encode() + np.ascontiguousarray(each).tobytes())
        elif isinstance(each, Mapping):
            for key in sorted(each, key=str):
                digest.update(repr(key).encode("utf-8", "surrogatepass"))
                add(each[key])
        elif isinstance(each, list | tuple):
            digest.update(f"{len(each)}".encode())
            for inner in each:
                add(inner)
        elif dataclasses.is_dataclass(each) or hasattr(each, "model_dump"):
            add({key: inner for key, inner in vars(each).items() if not key.startswith("_")})
        else:
            digest.update(repr(each).encode("utf-8", "surrogatepass"))

    add(value)
    return digest.hexdigest()


def _mutant(reader: Reader, root: Path, number: int, expected: str) -> tuple[str, str]:
    """Damage one file, read it, put it back; return the outcome and, for a fault of ours, what it was."""
    draw = np.random.default_rng([zlib.crc32(reader.name.encode()), number])
    path = root / reader.files[int(draw.integers(len(reader.files)))]
    whole = path.read_bytes()
    how = damage(path, draw)
    tensors._compared.clear()
    try:
        found = fingerprint(reader.read(root))
        false = reader.own and how != "resealed" and found != expected
        return ("lost", f"{path.name} {how}: other content was taken for whole") if false else ("survived", "")
    except RampError:
        return "clean", ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or sentence(error) is None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            ours = [x for x in traceback.extract_tb(error.__traceback__) if "/ramp/" in x.filename][-1:]
            places = " < ".join(f"{Path(x.filename).name}:{x.lineno}" for x in (where, *ours))
            return "tracebacks", f"{path.name} {how}: {type(error).__name__}: {str(error)[:160]} at {places}"
        return "clean", ""
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        for left in (*path.parent.glob("*.damaged-*"), *path.parent.glob(".*.partial")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _child(reader: Reader, root: Path, numbers: range, place: mmap.mmap, answers: int) -> None:
    """Read all mutants; the number of the present one stands in ``place``."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(1000)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    expected = fingerprint(reader.read(root))
    for number in numbers:
        place[:8] = struct.pack("<q", number)
        record = pickle.dumps((number, *_mutant(reader, root, number, expected)))
        os.write(answers, struct.pack("<I", len(record)) + record)


def fuzz(reader: Reader, template: Path, work: Path, count: int, first: int = 0) -> tuple[Counts, list[str]]:
    """Return what happened to ``count`` mutants of a reader's files, and the faults that are ours."""
    counts, faults = Counts(), []
    number, end = first, first + count
    while number < end:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work, symlinks=True)
        place, (answers, writes) = mmap.mmap(-1, 8), os.pipe()
        place[:8] = struct.pack("<q", -1)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(answers)
                _child(reader, work, range(number, end), place, writes)
                status = 0
            finally:
                os._exit(status)
        os.close(writes)
        hung = _collect(answers, child, counts, faults, reader.name)
        os.close(answers)
        if hung:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        reached = struct.unpack("<q", place[:8])[0]
        if reached < 0:
            raise RuntimeError(f"{reader.name} does not read its own undamaged files")
        if status == 0:
            break
        counts.injected += 1
        if hung:
            counts.hangs += 1
            faults.append(f"{reader.name} {reached}: hang")
        else:
            counts.tracebacks += 1
            faults.append(f"{reader.name} {reached}: the process ended with {os.waitstatus_to_exitcode(status)}")
        number = reached + 1
    return counts, faults


def _collect(answers: int, child: int, counts: Counts, faults: list[str], name: str) -> bool:
    """Take the child's answers until it ends; return whether it hangs."""
    left, last = b"", time.monotonic()
    while True:
        ready, _, _ = select.select([answers], [], [], 1.0)
        if not ready:
            if time.monotonic() - last > HANG_S:
                return True
            continue
        data = os.read(answers, 1 << 16)
        if not data:
            return False
        left, last = left + data, time.monotonic()
        while len(left) >= 4 and len(left) >= 4 + (size := struct.unpack("<I", left[:4])[0]):
            number, outcome, fault = pickle.loads(left[4 : 4 + size])
            left = left[4 + size :]
            counts.add(outcome)
            if fault:
                faults.append(f"{name} {number}: {fault}")
