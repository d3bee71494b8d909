"""llama.cpp's own quantizer, ``llama_model_quantize``, from Python: a float GGUF file in, a static mix out.

llama.cpp's importance matrix is the mean square of every input channel. Its tools pass it in files
(``write_importance`` writes the format of tools/imatrix: ``{tensor}.in_sum2`` and ``{tensor}.counts``); the library
takes an array of ``llama_model_imatrix_data`` (llama.h): name, values and their number, ended by an empty entry.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ramp.core import child_process
from ramp.core.atomic_files import atomic_path, require_file
from ramp.export.llamacpp import LlamaCppError

LAYOUT = {"nthread": 0, "ftype": 4, "output_tensor_type": 8, "token_embedding_type": 12}
"""Byte offsets of int32 fields of llama.h's ``llama_model_quantize_params``: known values there prove the layout."""


IMATRIX_OFFSET, TYPES_OFFSET, STRUCT_BYTES = 24, 40, 56
"""Where that struct holds the pointers to the importance matrix and to the types of single tensors, and its size, on
64-bit machines."""


SUM, COUNTS = ".in_sum2", ".counts"
"""Endings of an importance file's tensors."""


class _Importance(ctypes.Structure):
    """``struct llama_model_imatrix_data`` of llama.h."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t))


class _TensorType(ctypes.Structure):
    """``struct llama_model_tensor_override`` of llama.h: a regular expression and a ggml type."""

    _fields_ = (("pattern", ctypes.c_char_p), ("type", ctypes.c_int))


def missing() -> str | None:
    """Return why llama.cpp's quantizer cannot be called, or None."""
    if importlib.util.find_spec("cyllama") is None:
        return "llama.cpp is not installed (pip install cyllama)"
    return None


def quantizer_version() -> str:
    """Return the package, its version and its ggml build."""
    from cyllama.llama import llama_cpp as library

    return f"cyllama {version('cyllama')}, ggml {library.ggml_version()} ({library.ggml_commit()})"


def quantize_gguf(
    source: str | Path,
    out: str | Path,
    file_type: str,
    *,
    table_type: str | None,
    importance: Mapping[str, np.ndarray] | None = None,
    tensor_types: Mapping[str, str] | None = None,
    threads: int = 1,
) -> None:
    """Quantize a float GGUF file to the static mix ``file_type`` (``Q4_K_M``).

    ``table_type`` is the ggml type of embedding and head (``Q8_0``, ``F16``), None for the mix's own choice;
    ``importance`` maps a tensor's name in the file to float32 [d_in], ``tensor_types`` the names of single tensors to
    types of their own (``--tensor-type``). Raises ``LlamaCppError`` where llama.cpp is missing, knows no such mix, or
    refuses.
    """
    if reason := missing():
        raise LlamaCppError(reason)
    require_file(source, "float GGUF file")
    from cyllama.llama import llama_cpp as library

    library.disable_logging()
    options = library.LlamaModelQuantizeParams()
    try:
        options.ftype = int(gguf.LlamaFileType[f"MOSTLY_{file_type}"])
    except KeyError:
        raise LlamaCppError(f"llama.cpp has no mix named '{file_type}' (Q3_K_M, Q4_K_S and Q4_K_M are some)") from None
    options.nthread = max(threads, 1)
    if table_type is not None:
        options.output_tensor_type = options.token_embedding_type = int(gguf.GGMLQuantizationType[table_type])
    kept = [
        _pass_importance(options, importance) if importance else None,
        _pass_types(options, tensor_types) if tensor_types else None,
    ]
    with atomic_path(out) as temporary:
        try:
            library.model_quantize(str(source), str(temporary), options)
        except (ValueError, RuntimeError) as error:
            raise LlamaCppError(f"llama.cpp cannot quantize {source} to {file_type}: {error}") from None
    del kept  # the arrays that llama.cpp read had to live until here


def _pointer(options: Any, offset: int) -> ctypes.c_void_p:
    """Return a pointer of the C struct at the end of a parameter object, which cyllama 0.2.18 cannot set.

    Raises ``LlamaCppError`` unless the fields that Python sets are found at their offsets and the pointer is empty.
    """
    start = type(options).__basicsize__ - STRUCT_BYTES
    struct = (ctypes.c_ubyte * type(options).__basicsize__).from_address(id(options))
    view = memoryview(struct).cast("B")
    for field, place in LAYOUT.items():
        found = int.from_bytes(view[start + place : start + place + 4], "little", signed=True)
        if start < object.__basicsize__ or found != int(getattr(options, field)):
            raise LlamaCppError(
                f"cyllama {version('cyllama')} has another layout of parameters: an importance matrix cannot be passed "
                "to it (0.2.18 is known to work)"
            )
    pointer = ctypes.c_void_p.from_address(id(options) + start + offset)
    if pointer.value:
        raise LlamaCppError("llama.cpp's parameters hold an importance matrix already")
    return pointer


def _pass_importance(options: Any, importance: Mapping[str, np.ndarray]) -> list[Any]:
    """Write the pointer to an importance matrix into ``options``; return what must outlive the call."""
    pointer = _pointer(options, IMATRIX_OFFSET)
    arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in importance.items()}
    entries = (_Importance * (len(arrays) + 1))()  # the last one stays empty: the end
    for entry, (name, values) in zip(entries, arrays.items(), strict=False):
        if not np.isfinite(values).all() or (values < 0).any():
            raise LlamaCppError(f"the importance of {name} is negative or not finite: calibrate again")
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    pointer.value = ctypes.addressof(entries)
    return [entries, arrays]


def _pass_types(options: Any, tensor_types: Mapping[str, str]) -> list[Any]:
    """Write the pointer to types of single tensors into ``options``; return what must outlive the call."""
    pointer = _pointer(options, TYPES_OFFSET)
    entries = (_TensorType * (len(tensor_types) + 1))()
    for entry, (name, kind) in zip(entries, tensor_types.items(), strict=False):
        entry.pattern = f"^{re.escape(name)}$".encode()
        entry.type = int(gguf.GGMLQuantizationType[kind])
    pointer.value = ctypes.addressof(entries)
    return [entries]


def write_importance(out: str | Path, importance: Mapping[str, np.ndarray], *, tokens: int, length: int) -> None:
    """Write mean squares (tensor name -> float32 [d_in]) as llama.cpp's imatrix GGUF file, for ``--imatrix``.

    tokens: calibration tokens behind every mean; length: tokens per window.
    """
    writer = gguf.GGUFWriter(None, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration"])
    writer.add_uint32("imatrix.chunk_count", max(tokens // max(length, 1), 1))
    writer.add_uint32("imatrix.chunk_size", length)
    for name, values in sorted(importance.items()):
        writer.add_tensor(name + SUM, values.astype(np.float32)[None] * np.float32(tokens))
        writer.add_tensor(name + COUNTS, np.array([[tokens]], dtype=np.float32))
    with atomic_path(out) as temporary:
        try:
            writer.write_header_to_file(temporary)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def read_importance_file(path: str | Path) -> dict[str, np.ndarray]:
    """Return tensor name -> mean squares float32 [d_in] of an imatrix GGUF file: sums over counts, as llama-quantize.

    Raises ``LlamaCppError`` for a damaged file, and where sums or counts are missing.
    """
    require_file(path, "importance matrix")
    try:
        tensors = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(str(path)).tensors}
    except Exception as error:  # the reader raises ValueError, IndexError or UnicodeDecodeError on broken files
        raise LlamaCppError(f"{path} is not a readable GGUF file ({error}): delete it and run again") from None
    names = [name.removesuffix(SUM) for name in tensors if name.endswith(SUM)]
    lacking = [name for name in names if name + COUNTS not in tensors]
    if lacking or not names:
        what = f"no counts of {lacking[0]}" if lacking else "no sums"
        raise LlamaCppError(f"{path} holds {what}: it is not an importance matrix of llama.cpp")
    return {name: (tensors[name + SUM] / tensors[name + COUNTS]).astype(np.float32).reshape(-1) for name in names}


def quantize_apart(
    source: str | Path, out: str | Path, file_type: str, *, imatrix: str | Path | None = None, **options: Any
) -> None:
    """Run ``quantize_gguf`` in an interpreter of its own, with the importance matrix from a file.

    llama.cpp may abort the process: that too raises ``LlamaCppError``, and llama.cpp's message is in the log. The
    interpreter imports this module alone, no torch: it is started for every mix.
    """
    asked = {"source": str(source), "out": str(out), "file_type": file_type, **options}
    command = [sys.executable, "-c", APART, json.dumps(asked), *([str(imatrix)] if imatrix else [])]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = child_process.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode == REFUSED:
        raise LlamaCppError(done.stdout.strip())
    if done.returncode:
        raise LlamaCppError(f"llama.cpp aborted while quantizing {source} to {file_type}")


APART = "import sys; from ramp.export.llamacpp_quantize import answer; sys.exit(answer(*sys.argv[1:]))"
"""What the other interpreter runs."""

REFUSED = 3
"""Its status where it prints why llama.cpp refuses."""


def answer(asked: str, imatrix: str | None = None) -> int:
    """Quantize as ``quantize_apart`` asks; print why not, where llama.cpp refuses."""
    try:
        importance = read_importance_file(imatrix) if imatrix else None
        quantize_gguf(**json.loads(asked), importance=importance)
    except LlamaCppError as error:
        print(error)
        return REFUSED
    return 0
