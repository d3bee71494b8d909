"""A server that runs stages in forked copies of one process that has imported the large libraries and the stages.

Importing torch and transformers costs a stage some eight seconds of processor time: on a tiny model, more than its
work. Snakemake starts one server with a run (``Snakefile``), and the shell of its jobs calls the client
(``fork_client.py``) instead of ``python``. A job whose project has changed since the server read it imports it anew,
so that a job always runs the code as it is now. A job ends with its client, and every job ends with the server, which
ends with the process that started it.

``python fork_server.py SOCKET``, its standard input a pipe whose end is the end of the server.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

STREAMS = (0, 1, 2)

LIBRARIES = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "accelerate",
    "safetensors.torch",
    "gguf",
    "gymnasium",
    "pydantic",
)  # none that starts a thread: a forked copy has one thread (pandas loads pyarrow, which starts one)
PROJECT = ("ramp", "paper")  # packages whose commands are imported, too
GRACE_S = 5.0  # a job has this long to clean up after an interrupt
PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when its parent dies, even by kill -9


@dataclass(frozen=True)
class Request:
    """A command to run: the module and its arguments, working directory, file mode mask and environment."""

    module: str
    arguments: list[str]
    folder: str
    umask: int
    environment: dict[str, str]

    @classmethod
    def receive(cls, connection: socket.socket) -> tuple[Request, list[int]]:
        """Return the request and the descriptors of the client's streams; raise ``OSError`` where it is cut short."""
        _, streams, _, _ = socket.recv_fds(connection, 1, len(STREAMS))
        with connection.makefile("rb") as lines:
            line = lines.readline()
        if len(streams) != len(STREAMS) or not line.endswith(b"\n"):
            close(*streams)
            raise OSError("the client ended before its request did")
        return cls(**json.loads(line)), streams


@dataclass(frozen=True)
class Job:
    """A forked process, which leads a process group of its own, and the client that waits for it."""

    process: int
    descriptor: int  # of the process: readable when it has ended
    client: socket.socket

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process, number)

    def finish(self) -> None:
        """Collect the ended process, and give its status to the client: negative for the number of a signal."""
        _, status = os.waitpid(self.process, 0)
        with suppress(OSError):  # the client may be gone
            self.client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        self.client.close()
        os.close(self.descriptor)


class Server:
    """A socket that listens, the jobs that run, and what happens at each event; a job is interrupted, then killed."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.jobs: set[Job] = set()
        self.ends: dict[Job, float] = {}  # when an interrupted job is killed
        self.ending = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.start)
        self.selector.register(0, selectors.EVENT_READ, self.end)

    def run(self) -> Request | None:
        """Serve until standard input ends and no job runs; return the request in a forked process, None in the server.

        The data of each descriptor is the method that handles it.
        """
        while self.jobs or not self.ending:
            for key, _ in self.selector.select(GRACE_S / 5 if self.ends else None):
                request = key.data()
                if request is not None:
                    return request
            for job in [job for job, end in self.ends.items() if time.monotonic() > end]:
                job.send(signal.SIGKILL)
        return None

    def start(self) -> Request | None:
        """Fork a process for the next client; return its request in that process, None in the server."""
        client, _ = self.listener.accept()
        streams: list[int] = []
        server = os.getpid()
        try:
            request, streams = Request.receive(client)
            process = os.fork()
        except OSError:  # the client gets no answer
            close(client, *streams)
            return None
        if process == 0:
            self.leave(server)
            for own, stream in zip(STREAMS, streams, strict=True):
                os.dup2(stream, own)
            close(client, *streams)
            return request
        with suppress(OSError):  # the process was faster
            os.setpgid(process, process)
        close(*streams)
        job = Job(process, os.pidfd_open(process), client)
        self.jobs.add(job)
        self.selector.register(job.descriptor, selectors.EVENT_READ, partial(self.finish, job))
        self.selector.register(client, selectors.EVENT_READ, partial(self.abandon, job))
        return None

    def leave(self, server: int) -> None:
        """Make this forked process the leader of a group of its own, which dies with the server."""
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # it died before it could be watched
            os._exit(1)
        self.selector.close()
        for job in self.jobs:
            close(job.client, job.descriptor)

    def finish(self, job: Job) -> None:
        """Give the status of an ended job to its client."""
        self.jobs.remove(job)
        self.ends.pop(job, None)
        self.selector.unregister(job.descriptor)
        with suppress(KeyError):  # it was abandoned
            self.selector.unregister(job.client)
        job.finish()

    def abandon(self, job: Job) -> None:
        """Interrupt a job whose client has gone."""
        if job in self.jobs:  # else it has ended in the same round of events
            self.selector.unregister(job.client)
            self.interrupt(job)

    def interrupt(self, job: Job) -> None:
        """Interrupt a job, and set the time at which it is killed."""
        job.send(signal.SIGINT)
        self.ends.setdefault(job, time.monotonic() + GRACE_S)

    def end(self) -> None:
        """Take no more jobs, and interrupt those that run."""
        self.ending = True
        self.selector.unregister(0)
        self.selector.unregister(self.listener)
        for job in self.jobs:
            self.interrupt(job)


def close(*files: socket.socket | int) -> None:
    """Close sockets and descriptors."""
    for file in files:
        os.close(file) if isinstance(file, int) else file.close()


def serve(address: str) -> Request | None:
    """Serve at a socket until standard input ends; return the request in a forked process, None in the server."""
    with socket.socket(socket.AF_UNIX) as listener:
        with suppress(FileNotFoundError):
            os.unlink(address)  # of a killed server
        umask = os.umask(0o177)  # nobody else may connect
        try:
            os.close(os.pidfd_open(os.getpid()))  # some builds of Python 3.11 lack it (conda's, uv's)
            listener.bind(address)
        except (OSError, AttributeError) as error:
            print(f"warning: no fork server ({error}): every job starts an interpreter", file=sys.stderr)
            return None
        finally:
            os.umask(umask)
        listener.listen()
        loaded = load()
        gc.freeze()  # pages of the libraries stay shared
        request = Server(listener).run()
        if request is None:
            os.unlink(address)
        elif loaded != state():
            forget(project_modules())
        return request


def load() -> dict[str, tuple[int, int]]:
    """Import the libraries and every command of the project; return the state of its files (see ``state``)."""
    for library in LIBRARIES:
        importlib.import_module(library)
    began = time.time_ns()
    try:
        for module in commands():
            importlib.import_module(module)
    except Exception:  # a fault in the project is the fault of its jobs, which import it anew
        return {}
    return {file: each for file, each in state().items() if each[0] < began}  # not what was changed meanwhile


def commands() -> list[str]:
    """Return the modules that jobs run: those that ``python -m ramp`` lists."""
    from ramp.__main__ import COMMANDS

    served = [command.module for command in COMMANDS if command.module.split(".")[0] in PROJECT]
    packages = {module for module in served if (spec := find_spec(module)) and spec.submodule_search_locations}
    return [f"{module}.__main__" if module in packages else module for module in served]


def project_modules() -> list[str]:
    """Return the names of the project's modules that are imported."""
    return [name for name in sys.modules if name.split(".")[0] in PROJECT]


def state() -> dict[str, tuple[int, int]]:
    """Return time of change and size of the file of every imported module of the project that is still there."""
    found = {}
    for name in project_modules():
        if file := getattr(sys.modules[name], "__file__", None):
            with suppress(FileNotFoundError):
                found[file] = (os.stat(file).st_mtime_ns, os.stat(file).st_size)
    return found


def forget(modules: Sequence[str]) -> None:
    """Let modules be imported anew."""
    for name in modules:
        del sys.modules[name]


def become(request: Request) -> None:
    """Run a request in this process as ``python -m`` does; ends with its ``SystemExit``, if it raises one.

    torch read ``OMP_NUM_THREADS`` when the server started, so that its value for this job is set anew.
    """
    os.chdir(request.folder)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    threads, torch = os.environ.get("OMP_NUM_THREADS"), sys.modules.get("torch")
    if torch and threads:
        torch.set_num_threads(int(threads))
    if not sys.flags.safe_path:
        sys.path[0] = request.folder
    tempfile.tempdir = None  # TMPDIR may be another one now
    sys.argv = ["", *request.arguments]
    stage = f"{request.module}.__main__" if f"{request.module}.__main__" in sys.modules else request.module
    sys.modules.pop(stage, None)  # else runpy warns
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def end_job(status: int) -> None:
    """End this process as the interpreter does, but for its last step: taking down torch's modules one by one.

    They lie in pages shared with the server, and half a second goes to copying pages to forget what is in them.
    """
    threading._shutdown()  # as multiprocessing ends a forked process
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def main(argv: Sequence[str]) -> int:
    """Be a server, and in a forked copy the job."""
    request = serve(*argv)
    if request is not None:
        try:
            become(request)
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                raise  # a sentence, which the interpreter prints
            end_job(end.code or 0)
        end_job(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
