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

LARGEST_COLUMN, ROWS_AT_ONCE = 2**32, 256
"""Bytes of a column of texts, unpacked, which a small Parquet file may repeat any number of times; rows of a batch."""


def read_stream(data: bytes) -> pyarrow.Table:
    """Return the table of an Arrow stream; one of ``UNREADABLE`` where the bytes are damaged."""
    import pyarrow

    return _checked(lambda: pyarrow.ipc.open_stream(pyarrow.py_buffer(data)).read_all())


def read_parquet(path: Path, column: str) -> list[str]:
    """Return a column of texts of a Parquet file; one of ``UNREADABLE`` where it is damaged or larger than any text."""
    import pyarrow.parquet

    found: list[str] = []
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            total = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
                batch.validate(full=True)
                total += batch.nbytes
                if total > LARGEST_COLUMN:
                    raise ValueError(f"it unpacks to more than {LARGEST_COLUMN:,} bytes")
                found += batch.column(column).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    return found


def _checked(read: Callable[[], pyarrow.Table]) -> pyarrow.Table:
    """Return a table whose offsets, lengths, dictionaries and text are sound."""
    import pyarrow

    try:
        table = read()
        table.validate(full=True)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    return table
