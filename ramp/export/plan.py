"""The plan of a GGUF file: the ggml type and the bytes of every tensor, before anything is written.

The paper's HALO "writes the allocation to GGUF" (arXiv:2603.17891, abstract) and gives no types. Here a width becomes
the K-quant of the same width, quantized from the folded float weights, never from integer-grid weights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.atomic_files import read_json
from ramp.core.provenance import peak_rss_bytes
from ramp.gguf_format.names import GgufError, GgufTensor, gguf_tensors, sliding_window_note
from ramp.quantizers.ggml import BLOCKS, TYPE_FOR_BITS, fallback_type, row_bytes
from ramp.quantizers.widths import Width, bits_of, grouped

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TRACK_TYPES = {"q8_0": "Q8_0", "fp16": "F16"}
"""Type of the embedding and the head by track; a row that Q8_0's blocks of 32 do not divide stays F16."""

TABLES = ("embedding", "head")


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of a GGUF file: what the export writes and the check compares."""

    name: str  # in the GGUF file
    source: str  # in the checkpoint
    kind: str  # "linear", "embedding", "head", "norm" or "bias"
    type: str  # ggml type
    shape: tuple[int, ...]  # (d_out, d_in) or (d,)
    bytes: int
    requested: str | None = None  # the type before a fallback, None where there was none
    reason: str = ""  # of the fallback
    sha256: str = ""  # of the bytes, known once they are written


@dataclass(frozen=True)
class GgufPlan:
    """Content of ``.plan.json``: a GGUF file as it was written."""

    gguf: str  # file name
    kind: str  # "quantized", "float" or "mix"
    model: str
    architecture: str  # GGUF architecture
    track: str  # of embedding and head
    fold: str
    tensors: list[PlannedTensor]
    sizes: dict[str, int]  # by ``sizes_of``
    notes: list[str]  # fallbacks and limits, for a reader of the row
    wall_s: float  # seconds
    allocation: dict[str, Any] | None = None  # what names its row; None without one
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that wrote it
    peak_rss_bytes: int = field(default_factory=peak_rss_bytes)
    format: int = 1


def read_plan(path: str | Path) -> GgufPlan:
    """Read a ``.plan.json``."""
    return read_json(path, GgufPlan, sealed=True, again="export it again")


def plan_tensors(config: PretrainedConfig, widths: Mapping[str, Width] | None, track: str) -> list[PlannedTensor]:
    """Return every tensor with its type. ``widths`` maps every linear to its width; None plans a float32 file.

    A width's bits choose the type. A group size of its own has no effect, since ggml's blocks have their own. Raises
    ``GgufError`` unless ``widths`` names every linear of the model, nothing else, at widths that ggml has.
    """
    tensors = gguf_tensors(config)
    if widths is None:
        return [_planned(tensor, "F32") for tensor in tensors]
    names = {tensor.linear.name for tensor in tensors if tensor.linear}
    if names != widths.keys():
        missing, unknown = sorted(names - widths.keys()), sorted(widths.keys() - names)
        what = f"lacks {missing[0]}" if missing else f"names {unknown[0]}, which the model does not have"
        raise GgufError(f"the allocation {what}: it was made for another model")
    types = dict.fromkeys(TABLES, TRACK_TYPES[track])
    for name, width in sorted(widths.items()):
        if (bits := bits_of(width)) not in TYPE_FOR_BITS:
            raise GgufError(f"{name}: no ggml type for {bits} bits (there are {', '.join(map(str, TYPE_FOR_BITS))})")
        types[name] = TYPE_FOR_BITS[bits]
    return [_planned(x, types.get(x.linear.name if x.linear else x.kind, "F32")) for x in tensors]


def _planned(tensor: GgufTensor, wanted: str) -> PlannedTensor:
    *rows, columns = tensor.shape
    kind = fallback_type(wanted, columns)
    size = math.prod(rows) * row_bytes(kind, columns)
    planned = (tensor.name, tensor.source, tensor.kind, kind, tensor.shape, size)
    if kind == wanted:
        return PlannedTensor(*planned)
    return PlannedTensor(*planned, wanted, f"rows of {columns} are not multiples of {BLOCKS[wanted][0]}")


def plan_notes(
    tensors: Iterable[PlannedTensor], widths: Mapping[str, Width] | None, config: PretrainedConfig
) -> list[str]:
    """Return what a reader of the row should know: fallbacks, group sizes without counterpart, a sliding window."""
    fallbacks = Counter(f"{x.requested} -> {x.type} ({x.reason})" for x in tensors if x.requested)
    notes = [f"{text}: {count} tensors" for text, count in sorted(fallbacks.items())]
    if widths is not None and grouped(list(widths.values())):
        notes.append("group sizes of the allocation have no counterpart: ggml's blocks have their own")
    return [*notes, *filter(None, [sliding_window_note(config)])]


def sizes_of(tensors: Iterable[PlannedTensor], bytes_file: int) -> dict[str, int]:
    """Return the size ledger; ``bytes_other`` is header, metadata, tokenizer, norms, biases and padding."""
    parts = dict.fromkeys(("bytes_linear", "bytes_embedding", "bytes_head"), 0)
    for tensor in tensors:
        if (part := f"bytes_{tensor.kind}") in parts:
            parts[part] += tensor.bytes
    return {"bytes_file": bytes_file, **parts, "bytes_other": bytes_file - sum(parts.values())}


def type_lines(tensors: Sequence[PlannedTensor]) -> str:
    r"""Return llama.cpp's ``--tensor-type-file``: ``pattern=type`` per line, the pattern a regular expression.

    llama.cpp reads it by whitespace, lower-cases it and searches every tensor's name for the patterns
    (tools/quantize/quantize.cpp, src/llama-quant.cpp), hence the anchors and the escaped dots.
    """
    quantized = [x for x in tensors if x.kind in ("linear", *TABLES)]
    return "".join(f"^{x.name.replace('.', chr(92) + '.')}$={x.type.lower()}\n" for x in quantized)
