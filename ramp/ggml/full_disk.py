"""A full disk as one sentence: the libraries that write files say it in three ways."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from ramp.core.errors import RampError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FullDiskError(RampError):
    """A disk, a quota or a file system's limit on files that is reached."""


def is_full_disk(error: Exception) -> bool:
    """Return whether an error of Python, numpy (which gives no number) or safetensors means that nothing more fits."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return "requested and" in text or any(f"(os error {number})" in text for number in FULL)


@contextmanager
def full_disk_as_one_sentence() -> Iterator[None]:
    """Raise ``FullDiskError`` in place of errors that mean a full disk; it serves as a decorator too."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_full_disk(error):
            raise
        raise FullDiskError(
            f"the disk or a quota is full ({str(error)[:120]}): free some, or name another by --work and --out; the "
            "same command goes on from here"
        ) from None
