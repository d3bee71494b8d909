"""A stand-in for the Hugging Face hub on this machine: as much of its HTTP interface as ``huggingface_hub`` asks for.

    with Hub() as hub:
        hub.add("some/model", folder, tokens=["hf_good"])
        ...  # in a process with hub.environment(cache)

Repositories are folders. As on the hub, their metadata is public also where their files are gated; large files are
stored apart (LFS: the API gives their sha256, their address leads to another host, which takes no token), small ones
are known by git's sha1. Faults are switched on by file name or path while it runs; ``requests`` keeps what was asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pth", ".model", ".parquet", ".gz")
PIECE = 1 << 20
INVALID = "Invalid credentials in Authorization header"


@dataclass(frozen=True)
class Repository:
    """One repository at one commit; ``tokens`` may read a gated one, None: everybody."""

    folder: Path
    commit: str
    tokens: frozenset[str] | None = None

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def listing(self) -> list[dict[str, Any]]:
        """The files as the API's tree has them."""
        found = []
        for file in self.files():
            size = file.stat().st_size
            entry = {"type": "file", "path": file.relative_to(self.folder).as_posix(), "size": size, "oid": oid(file)}
            found.append(
                {**entry, "lfs": {"oid": sha256(file), "size": size, "pointerSize": 135}} if large(file) else entry
            )
        return found


@dataclass
class Faults:
    """Faults of the hub by file name; counts run down to 0."""

    cut: dict[str, int] = field(default_factory=dict)  # bytes after which the connection ends, once
    corrupt: dict[str, int] = field(default_factory=dict)  # downloads in which one byte is another
    delay_s: dict[str, float] = field(default_factory=dict)  # pause after each piece of 1 MiB
    status: dict[str, int] = field(default_factory=dict)  # by the path's beginning: answered with this status


@dataclass(frozen=True)
class Request:
    """One request: method, path, value of the header Range, token."""

    method: str
    path: str
    range: str
    token: str


class Hub(ThreadingHTTPServer):
    """The server, in threads of this process."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults = Faults()
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage(self) -> str:
        """Address of large files: another host, as a client sees it."""
        return f"http://localhost:{self.server_address[1]}/storage"

    def add(
        self, name: str, folder: Path, *, kind: str = "model", commit: str = "", tokens: Iterable[str] | None = None
    ) -> Repository:
        """Serve a folder as a repository; the commit is by default made of its content."""
        named = "".join(f"{sha256(path)} {path}\n" for path in sorted(folder.rglob("*")) if path.is_file())
        commit = commit or hashlib.sha1(named.encode()).hexdigest()
        repository = Repository(folder, commit, None if tokens is None else frozenset(tokens))
        self.repositories[f"{kind}s", name] = repository
        return repository

    def allow(self, name: str, token: str) -> None:
        """Let another token read a gated model."""
        found = self.repositories["models", name]
        self.repositories["models", name] = replace(found, tokens=(found.tokens or frozenset()) | {token})

    def environment(self, cache_folder: Path, token: str = "") -> dict[str, str]:
        """Environment variables of a process that uses this hub; an empty one is to be unset."""
        found = {name: "" for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_"))}
        found |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        found["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
        return {**found, "HF_ENDPOINT": self.url, "HF_HOME": str(cache_folder), "HF_TOKEN": token}

    def asked(self, name: str) -> list[Request]:
        """The requests for the content of a file, by its name."""
        return [one for one in self.requests if one.method == "GET" and one.path.endswith(f"/{name}")]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients are killed on purpose."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub
    paths: list[str]  # of the files that a POST asks for

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """The listing of files by name: ``paths-info``, with the names as a form."""
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self.paths = form.get("paths", [])
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = Request(self.command, path, self.headers.get("Range", ""), self.token)
        self.server.requests.append(asked)
        for prefix, status in self.server.faults.status.items():
            if path.startswith(prefix):
                return self.answer(status, {"error": "a fault of the stand-in"})
        if path.startswith("/storage/"):
            return self.stored(path)
        kinds = r"auth-check|(?:tree|revision|paths-info)/[^/]+"
        api = re.fullmatch(rf"/api/(models|datasets)/([^/]+/[^/]+)(?:/({kinds}))?", path)
        if api:
            return self.api(*api.groups())
        content = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if content:
            dataset, name, revision, file = content.groups()
            return self.resolve("datasets" if dataset else "models", name, revision, file)
        return self.answer(404, {"error": f"the stand-in has no {path}"})

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def repository(self, kind: str, name: str, revision: str) -> Repository | None:
        """The repository at a revision, or None after the answer that refuses it."""
        found = self.server.repositories.get((kind, name))
        valid = {token for each in self.server.repositories.values() for token in each.tokens or ()}
        if self.token and valid and self.token not in valid:
            self.refuse(401, "", INVALID)
        elif found is None:
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        elif revision not in ("main", found.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return found
        return None

    def may_read(self, repository: Repository, name: str) -> bool:
        """Return whether the token reads the files; answers where it does not."""
        if repository.tokens is None or self.token in repository.tokens:
            return True
        restricted = f"Access to model {name} is restricted"
        if self.token:
            self.refuse(403, "GatedRepo", f"{restricted} and you are not in the authorized list.")
        else:
            self.refuse(401, "GatedRepo", f"{restricted}. You must be authenticated to access it.")
        return False

    def api(self, kind: str, name: str, what: str | None) -> None:
        verb, _, revision = (what or "").partition("/")
        found = self.repository(kind, name, revision or "main")
        if found is None:
            return None
        if verb == "auth-check":
            return self.answer(200, {"ok": True}) if self.may_read(found, name) else None
        if verb == "tree":
            return self.answer(200, found.listing())
        if verb == "paths-info":
            return self.answer(200, [entry for entry in found.listing() if entry["path"] in self.paths])
        named = [{"rfilename": entry["path"]} for entry in found.listing()]
        gated = "manual" if found.tokens is not None else False
        return self.answer(200, {"id": name, "sha": found.commit, "private": False, "gated": gated, "siblings": named})

    def resolve(self, kind: str, name: str, revision: str, file: str) -> None:
        found = self.repository(kind, name, revision)
        if found is None or not self.may_read(found, name):
            return None
        path = found.folder / file
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found")
        if not large(path):
            return self.send_file(path, {"ETag": f'"{oid(path)}"', "X-Repo-Commit": found.commit})
        head = {"X-Linked-ETag": f'"{sha256(path)}"', "X-Linked-Size": str(path.stat().st_size)}
        where = f"{self.server.storage}/{kind}/{name}/{quote(file)}"
        return self.answer(302, b"", **head, Location=where, **{"X-Repo-Commit": found.commit})

    def stored(self, path: str) -> None:
        """A large file at its own address: a token sent here has leaked."""
        _, _, kind, owner, name, file = path.split("/", 5)
        if self.token:
            return self.answer(400, {"error": "a token was sent to another host"})
        return self.send_file(self.server.repositories[kind, f"{owner}/{name}"].folder / file, {})

    def send_file(self, path: Path, head: dict[str, str]) -> None:
        """The bytes that the header Range asks for, with the faults of this file."""
        size, start = path.stat().st_size, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            head = {**head, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
        self.send_response(206 if asked else 200)
        for key, value in {**head, "Accept-Ranges": "bytes", "Content-Length": str(size - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        faults, data = self.server.faults, bytearray(path.read_bytes()[start:])
        if faults.corrupt.get(path.name, 0) > 0:
            faults.corrupt[path.name] -= 1
            data[len(data) // 2] ^= 0xFF
        ends = faults.cut.pop(path.name, len(data))
        for at in range(0, min(ends, len(data)), PIECE):
            self.wfile.write(data[at : min(at + PIECE, ends)])
            time.sleep(faults.delay_s.get(path.name, 0))
        self.close_connection = ends < len(data)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": message}, **{"X-Error-Code": code, "X-Error-Message": message})

    def answer(self, status: int, content: Any, **head: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **head, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing; ``Hub.requests`` has it."""


def large(path: Path) -> bool:
    """Return whether a file is stored in LFS."""
    return path.suffix in LARGE


def sha256(path: Path) -> str:
    return _digests(path, path.stat().st_mtime_ns)[0]


def oid(path: Path) -> str:
    """git's sha1 of a file."""
    return _digests(path, path.stat().st_mtime_ns)[1]


@cache
def _digests(path: Path, changed: int) -> tuple[str, str]:
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
