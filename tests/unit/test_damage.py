"""Checksums of files, leftovers of killed jobs, and faults of the machine as one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ramp.core import cli, stale_temporaries, tensors
from ramp.core.atomic_files import DamagedFile, atomic_path, read_json, set_aside, write_json, write_text
from ramp.core.checksum_sidecar import check_sidecar, write_with_sidecar
from ramp.core.errors import RampError
from ramp.core.stale_temporaries import abandoned, owner, scratch_folder, started, sweep, temporary_folder
from ramp.core.tensor_file import save_tensors
from ramp.core.tensors import load_tensors, open_tensors, save_arrays
from ramp.problem.proxy import read_sensitivities
from ramp.records.intermediate_digests import content_digest
from tests.refusals import refused
from tests.sealed import owner_of_a_killed_job, write_sealed

REPO = Path(__file__).resolve().parents[2]


def test_a_sealed_object_reads_back_and_every_change_is_seen(tmp_path: Path) -> None:
    value, path = {"a": [1, 0.1, None], "b": {"c": "é"}}, tmp_path / "x.json"
    write_json(path, value, sealed=True)
    assert read_json(path, dict[str, object], sealed=True) == value
    text = path.read_text(encoding="utf-8")
    for changed in (text.replace("0.1", "0.2"), text.replace('"c"', '"d"'), text.replace("content_sha256", "x")):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(DamagedFile):
            read_json(path, dict[str, object], sealed=True)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        '{"a": NaN}',
        '{"a": 1e999}',
        "9" * 5000,
        '{"a": 9223372036854775808}',
        '{"a": "\x00',
        "",
        '{"a": "b"}',
        "[1]",
        b"\xff\xfe",
    ],
)
def test_json_that_is_none_is_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(DamagedFile, {"x.json": lambda: read_json(path, dict[str, int])})


@pytest.mark.parametrize("about", [None, {}, {"x": 1}])
def test_a_damaged_file_of_tensors_is_refused(tmp_path: Path, about: dict[str, int] | None) -> None:
    path, arrays = tmp_path / "x.safetensors", {"b": np.arange(6.0), "a": np.zeros((2, 3), np.uint8)}
    save_arrays(path, arrays, about)
    with open_tensors(path, "test", framework="np") as found:
        assert found.about == (about or {})
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    whole = path.read_bytes()
    save_arrays(path, arrays, about)
    assert path.read_bytes() == whole, "the same tensors give the same bytes"
    for place in (0, 9, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        tensors._compared.clear()
        with pytest.raises(DamagedFile):
            load_tensors(path, "test", framework="np")
    path.write_bytes(whole[:-1])
    refused(DamagedFile, {"sha256": lambda: load_tensors(path, "test")})


def test_tensors_are_stored_as_safetensors_stores_them(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save_tensors(tmp_path / "x", {"a": torch.ones(3), "b": torch.zeros(2, 2)}, {"n": 1})
    assert torch.equal(load_file(tmp_path / "x")["a"], torch.ones(3))


@pytest.mark.parametrize("value", [-1000.0, -1e-9, 1e308])
def test_sensitivities_below_zero_are_refused(tmp_path: Path, value: float) -> None:
    record = {"proxy": "fisher", "tokens": 1, "linears": {"x": {"3": value}}}
    path = write_sealed(tmp_path / "s.json", record)
    if value > 0:
        assert read_sensitivities(path).linears["x"]["3"] == value
        return
    refused(DamagedFile, {"less than none": lambda: read_sensitivities(path)})
    write_sealed(path, record | {"proxy": "kl_cheapest"})
    assert read_sensitivities(path).linears["x"]["3"] == value, "from the cheapest allocation on, others gain"


def test_leftovers_of_a_killed_job_are_swept_and_those_of_a_live_one_are_not(tmp_path: Path) -> None:
    host, boot, process, _ = owner().split("-")
    dead = [tmp_path / f".a.{owner_of_a_killed_job()}.partial", tmp_path / f".b.{owner_of_a_killed_job()}.scratch"]
    live = [
        tmp_path / f".c.{owner()}.partial",
        tmp_path / f".d.{host[::-1]}x-{boot}-{process}-1.partial",
        tmp_path / ".e.7.partial",
    ]
    elsewhere = tmp_path / f".f.{'0' * 8}-{boot}-{process}-1.partial"
    for path in (*dead, *live, elsewhere):
        path.mkdir()
    assert [abandoned(path) for path in (*dead, *live, elsewhere)] == [True, True, False, False, False, False]
    write_text(tmp_path / "x", "whole")
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in (*live, elsewhere))


def test_a_process_that_is_gone_has_not_started() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert started(child) is None
    assert started(os.getpid())


def test_a_child_ends_with_a_job_that_is_killed(tmp_path: Path) -> None:
    named = tmp_path / "child"
    sleeper = f"import os, time; open({str(named)!r} + '.partial', 'w').write(str(os.getpid())); "
    sleeper += f"os.rename({str(named)!r} + '.partial', {str(named)!r}); time.sleep(60)"
    text = (
        f"import sys; from ramp.core import child_process; child_process.run([sys.executable, '-S', '-c', {sleeper!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", text], cwd=REPO) as job:
        waited(named.exists)
        child = int(named.read_text())
        assert started(child) is not None
        job.kill()
    waited(lambda: started(child) is None)


def waited(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for half a minute at most."""
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_scratch_folder_ends_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "row") as folder:
        sweep(tmp_path)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_is_damaged_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        (tmp_path / "state").write_text("?")
        set_aside(tmp_path / "state", "torn")
        assert (tmp_path / f"state.damaged-{number}").is_file()
    assert "torn" in caplog.text


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_path(tmp_path / "row") as partial:
            partial.mkdir()
            (partial / "x").write_text(text)
    assert (tmp_path / "row" / "x").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["row"]


class PanicException(BaseException):
    """As pyo3 names a panic of Rust."""


def broken_library() -> ImportError:
    """As scipy names itself where one of its modules finds no memory."""
    error = ImportError("The `scipy` install you are using seems to be broken")
    error.__cause__ = ImportError("_highs.so: failed to map segment from shared object")
    return error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "/x/y: No space left on device: free"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 2, "can be written"),
        (MemoryError(), 2, "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "memory"),
        (broken_library(), 2, "memory"),
        (RuntimeError("I/O error: File too large (os error 27)"), 2, "ulimit -f"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "UTF-8"),
        (EOFError("Compressed file ended"), 2, "damaged"),
        (PanicException("called unwrap on None"), 2, "damaged"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RampError("one sentence"), 2, "one sentence"),
    ],
)
def test_a_fault_of_the_machine_is_one_sentence(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: object) -> int:
        raise error

    import safetensors  # noqa: F401 - whose panics are Rust's

    assert cli.run(main, []) == status
    told = capsys.readouterr().err
    assert sum(line.startswith("error: ") for line in told.splitlines()) == 1
    assert words in told
    assert "Traceback" not in told
    assert cli.run(main, ["--debug"]) == status
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_a_fault_keeps_its_status_where_the_log_lies_on_a_full_disk(options: list[str]) -> None:
    text = (
        "import sys; from ramp.core import cli; from ramp.core.errors import RampError\n"
        "def main(argv): raise RampError('one sentence')\n"
        f"sys.exit(cli.run(main, {options}))"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", text], stderr=full, cwd=REPO, check=False)
    assert done.returncode == 2


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def main(argv: object) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        cli.run(main, [])


def test_a_digest_of_content_leaves_checksums_out(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    write_json(tmp_path / "plain.json", {"a": 1})
    write_json(tmp_path / "sealed.json", {"a": 1}, sealed=True)
    arrays = {"x": np.arange(3.0)}
    save_file(arrays, tmp_path / "plain.safetensors")
    save_arrays(tmp_path / "sealed.safetensors", arrays)
    for end in ("json", "safetensors"):
        assert content_digest(tmp_path / f"plain.{end}") == content_digest(tmp_path / f"sealed.{end}")


def test_a_sealed_list_reads_back_and_every_change_is_seen(tmp_path: Path) -> None:
    """Its content, and so its digest, is that of the list alone."""
    value, path, plain = [{"a": 1.5}, {"a": None}], tmp_path / "x.json", tmp_path / "y.json"
    write_json(path, value, sealed=True)
    write_json(plain, value)
    assert read_json(path, list[dict[str, object]], sealed=True) == read_json(plain, list[dict[str, object]]) == value
    assert content_digest(path) == content_digest(plain)
    text = path.read_text(encoding="utf-8")
    for changed in (text.replace("1.5", "2.5"), text.replace("items", "item"), text.replace("content_sha256", "x")):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(DamagedFile):
            read_json(path, list[dict[str, object]])


def test_a_file_with_its_checksum_beside_it_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_with_sidecar(path, '{"a": 1}\n')
    check_sidecar(path, "again")
    path.write_text('{"a": 2}\n')
    refused(DamagedFile, {"rows.jsonl.sha256: again": lambda: check_sidecar(path, "again")})
    write_with_sidecar(path, '{"a": 2}\n')
    check_sidecar(path, "again")
    (tmp_path / "rows.jsonl.sha256").unlink()
    check_sidecar(path, "again")  # of an earlier version, or a user's


def _temporary(folder: Path, machine: str, boot: str, days: float) -> Path:
    """Return a temporary folder of a process, whose last change is so many days ago."""
    path = folder / f".row.{machine}-{boot}-{os.getpid()}-1.partial"
    path.mkdir()
    (path / "weights").write_text("x")
    for each in (path / "weights", path):
        os.utime(each, (time.time() - 86_400 * days,) * 2)
    return path


def test_leftovers_of_an_earlier_start_and_of_other_machines_are_swept_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss leaves what no process of this start owns; another machine's job may run for days."""
    machine, boot, _, _ = owner().split("-")
    monkeypatch.setattr(stale_temporaries, "_booted", lambda: time.time() - 3600)
    other = "0" * 8
    before = _temporary(tmp_path, machine, other, days=1)
    changed_since = _temporary(tmp_path, machine, "1" * 8, days=0.01)  # two machines of one name
    elsewhere, long_ago = _temporary(tmp_path, other, boot, days=20), _temporary(tmp_path, "1" * 8, boot, days=31)
    old_name = tmp_path / f".row.{machine}-{os.getpid()}-1.partial"  # of an earlier version
    old_name.mkdir()
    found = [abandoned(path) for path in (before, changed_since, elsewhere, long_ago, old_name)]
    assert found == [True, False, False, True, False]
    (long_ago / "weights").write_text("a job that still writes")
    assert not abandoned(long_ago)
    sweep(tmp_path)
    assert not before.exists()
    assert changed_since.exists()


def test_the_folder_for_temporary_files_is_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f".ramp-tasks.x.{owner_of_a_killed_job()}.scratch"
    left.mkdir()
    with temporary_folder("ramp-tasks") as folder:
        assert folder.parent == tmp_path
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    save_arrays(tmp_path / "x", {"a": np.ones(1)})
    found = load_tensors(tmp_path / "x", "test", framework="np", again="make it again")
    assert "b" not in found
    refused(DamagedFile, {"lacks 'b': make it again": lambda: found["b"]})
