"""Arrow tables from outside, checked before a value is read: native code follows their offsets without looking."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError),
    zlib.error,
)
"""What readers of tables, gzip and JSON raise on damaged bytes."""


def read_stream(data: bytes) -> pyarrow.Table:
    """Return the table of an Arrow stream; one of ``UNREADABLE`` where the bytes are damaged."""
    import pyarrow

    return _checked(lambda: pyarrow.ipc.open_stream(pyarrow.py_buffer(data)).read_all())


def read_parquet(path: Path, columns: list[str]) -> pyarrow.Table:
    """Return columns of a Parquet file; one of ``UNREADABLE`` where it is damaged."""
    import pyarrow.parquet

    return _checked(lambda: pyarrow.parquet.read_table(path, columns=columns))


def _checked(read: Callable[[], pyarrow.Table]) -> pyarrow.Table:
    """Return a table whose offsets, lengths, dictionaries and text are sound."""
    import pyarrow

    try:
        table = read()
        table.validate(full=True)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    return table
