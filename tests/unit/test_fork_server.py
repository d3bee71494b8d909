"""The server of forked jobs: what a job gets from its client, and that nothing outlives what it was started for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RUN = """
import sys
from workflow.scripts import fork_client, fork_server
fork_client.SERVED, fork_server.LIBRARIES, fork_server.PROJECT = ("stage",), (), ("part",)
fork_server.commands = lambda: ["part"]
sys.exit((fork_client if sys.argv[2:] else fork_server).main(sys.argv[1:]))
"""
STAGE = """
import os, subprocess, sys, time
kind, *rest = sys.argv[1:]
if kind == "tell":
    print(os.getcwd(), os.environ["GIVEN"], rest, os.getpid() == os.getpgid(0), __name__)
    print("to stderr", file=sys.stderr)
    import atexit, threading
    atexit.register(lambda: open("at_exit", "w").close())
    threading.Thread(target=lambda: (time.sleep(0.2), open("made", "w").close())).start()
    sys.exit(3)
if kind == "part":
    loaded = "part" in sys.modules
    import part
    print(loaded, part.VALUE)
if kind == "die":
    os.kill(os.getpid(), 9)
if kind == "fail":
    raise ValueError("a fault")
if kind == "sleep":
    child = subprocess.Popen(["sleep", "60"])
    with open("new", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename("new", "running")
    time.sleep(60)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a server or a client in a folder that holds the module ``stage``."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "part.py").write_text("VALUE = 1")

    def call(*arguments: str, **given: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPO), **given}
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "socket"), *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o027,
        )

    return call


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for at most half a minute."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def server(start: Start, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A server without libraries that listens."""
    running = start()
    until((tmp_path / "socket").exists)
    yield running
    running.kill()
    running.wait()


def gone(process: int) -> bool:
    """Return whether a process has ended (one that nobody collected yet counts as ended)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.parametrize("served", [True, False])
def test_a_job_is_what_python_would_run(
    start: Start, tmp_path: Path, request: pytest.FixtureRequest, served: bool
) -> None:
    """The same arguments, folder, environment, streams and status, with a server and without one."""
    if served:
        request.getfixturevalue("server")
    client = start("-m", "stage", "tell", "a b", "'$x'", GIVEN="here")
    out, err = client.communicate(timeout=30)
    folder, given, arguments = out.split(" ", 2)
    assert (folder, given) == (str(tmp_path), "here")
    assert arguments == f"""['a b', "'$x'"] {served} __main__\n"""  # only a forked job leads a group of its own
    assert err == "to stderr\n"
    assert client.returncode == 3
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o640  # by a thread that the end waits for
    assert (tmp_path / "at_exit").exists()


@pytest.mark.usefixtures("server")
def test_a_job_runs_the_code_as_it_is_now(start: Start, tmp_path: Path) -> None:
    """The server has read a module of the project: its jobs take that, until the file is another one."""
    assert start("-m", "stage", "part").communicate(timeout=30)[0] == "True 1\n"
    (tmp_path / "part.py").write_text("VALUE = 22")
    assert start("-m", "stage", "part").communicate(timeout=30)[0] == "False 22\n"


def test_faults_and_signals_arrive_at_the_client(server: subprocess.Popen[str], start: Start) -> None:
    for kind, status, text in (("fail", 1, "ValueError: a fault"), ("die", 128 + signal.SIGKILL, "")):
        client = start("-m", "stage", kind)
        assert text in client.communicate(timeout=30)[1]
        assert client.returncode == status
    assert server.poll() is None


@pytest.mark.parametrize("end", ["client", "server", "starter"])
def test_no_job_outlives_its_client_or_the_server(
    server: subprocess.Popen[str], start: Start, tmp_path: Path, end: str
) -> None:
    """The job and its own children; ``starter``: the pipe that the server reads closes when Snakemake dies."""
    client = start("-m", "stage", "sleep")
    until((tmp_path / "running").exists)
    processes = [int(word) for word in (tmp_path / "running").read_text().split()]
    if end == "client":
        client.kill()
    elif end == "starter":
        server.stdin.close()
        assert server.wait(timeout=30) == 0
        assert not (tmp_path / "socket").exists()
    else:
        server.kill()
    until(lambda: all(map(gone, processes[:1] if end == "server" else processes)))
    client.wait(timeout=30)
    assert client.returncode != 0
    if end == "client":  # the server goes on
        assert start("-m", "stage", "tell", GIVEN="x").wait(timeout=30) == 3
    if end == "server":  # nobody is left who could stop what the job started
        os.kill(processes[1], signal.SIGKILL)


def test_the_server_has_one_thread() -> None:
    """A copy of a process with threads may wait forever for a lock that one of them held."""
    code = (
        "import os, sys; from workflow.scripts import fork_server; loaded = fork_server.load()\n"
        "print(len(os.listdir('/proc/self/task')), len(loaded) > 100, 'ramp.bank.build' in sys.modules)"
    )
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=os.environ | single, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 True True\n"
