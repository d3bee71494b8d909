"""Exceptions of libraries and of the machine, each as one sentence with the fault, the place and the remedy."""

from __future__ import annotations

import errno
import gzip
import json
import re
import sys
import zipfile
import zlib

REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk, and run the same command again",
    errno.EDQUOT: "free some of your quota, or write to another disk, and run the same command again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "change its permissions, or choose another one",
    errno.EPERM: "change its permissions, or choose another one",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or use another file system",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the limit on open files",
    errno.ENOMEM: "close other programs, raise the limit on memory, or use a larger machine",
    errno.ENOTDIR: "a part of this path is a file: correct the path",
    errno.EISDIR: "give a file, not a folder",
    errno.ENOENT: "check the path, or run the stage that writes it",
    errno.ENAMETOOLONG: "shorten the path",
    errno.EIO: "the disk reports a fault: check it",
}
"""Number of an error of the operating system -> what a user can do."""

MEMORY = "close other programs, use fewer threads or a larger machine, and run the same command again"
DAMAGED = "where a stage wrote that file, delete it and run the stage again; else get the file again"
LIMITS = re.compile(
    r"can't allocate memory|out of memory|[Cc]annot allocate|unable to mmap|std::bad_alloc|failed to map segment"
)
SYSTEM = re.compile(r"\(os error (\d+)\)")
"""How Rust's libraries (safetensors, tokenizers) name an error of the operating system."""

WRITTEN = re.compile(r"\d+ requested and \d+ written")
"""How numpy says that a disk is full, without a number."""

LIBRARIES = ("safetensors", "yaml", "pyarrow", "tokenizers", "datasets")
"""Libraries whose exceptions mean that a file is not what it should be."""


def sentence(error: BaseException) -> str | None:
    """Return one sentence for a fault that a user can act on; None for one of the program."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: run the same command again, it goes on where it can"
    cause = error.__cause__ if isinstance(error, ImportError) else None  # scipy calls itself broken without memory
    if isinstance(error, MemoryError) or LIMITS.search(f"{text} {cause}"):
        return f"the memory is exhausted ({text or type(error).__name__}): {MEMORY}"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OSError) and WRITTEN.search(text):
        number = errno.ENOSPC
    if named := SYSTEM.search(text):
        number = int(named[1])
    if number is not None or isinstance(error, OSError):
        return _system(error, number, text)
    if isinstance(error, UnicodeError):
        return f"a text is not in the encoding that is expected ({text}): convert it to UTF-8"
    if isinstance(error, RecursionError):
        return f"a file is nested too deeply ({text}): {DAMAGED}"
    if isinstance(error, (json.JSONDecodeError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)):
        return f"a file is damaged ({text or type(error).__name__}): {DAMAGED}"
    if any(_is_of(error, library) for library in LIBRARIES):
        return f"a file is damaged ({text}): {DAMAGED}"
    return None


def _system(error: BaseException, number: int | None, text: str) -> str:
    """Return the sentence of an error of the operating system, with the file where it is known."""
    names = [str(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    reason = getattr(error, "strerror", None) or text or type(error).__name__
    remedy = REMEDIES.get(number or 0, "check the file and its disk, and run the same command again")
    return f"{' -> '.join(names) + ': ' if names else ''}{reason}: {remedy}"


def _is_of(error: BaseException, library: str) -> bool:
    """Return whether an exception's class, or one of its bases, is of a library; pyo3's panics are Rust's."""
    panic = type(error).__name__ == "PanicException" and library in sys.modules
    return panic or any(base.__module__.partition(".")[0] == library for base in type(error).__mro__)
