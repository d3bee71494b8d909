"""From a float checkpoint and an allocation to a GGUF file: the plan of its tensors, and the writing of them.

The paper's HALO "writes the allocation to GGUF" (arXiv:2603.17891, abstract); how the widths become ggml types is
ours: the K-quant of the same width, quantized from the folded float weights, never from integer-grid weights.
"""

from __future__ import annotations

import hashlib
import math
import re
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.files import atomic_path, require_file
from ramp.gguf.names import GgufTensor, HaloError, add_hyperparameters, gguf_tensors, sliding_window_note, to_gguf_rows
from ramp.gguf.vocabulary import add_tokenizer
from ramp.models.architecture import architecture, list_linears
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.problem.allocation import AllocationRecord
from ramp.quantizers.widths import Width, bits_of, grouped

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

PLAN_FORMAT = 1

TRACK_TYPES = {"q8_0": "Q8_0", "fp16": "F16", "f16": "F16"}
"""Type of the embedding and the head by track; a row that Q8_0's blocks of 32 do not divide stays F16."""

FILE_TYPES = {"F32": "ALL_F32", "Q3_K": "MOSTLY_Q3_K_S", "Q4_K": "MOSTLY_Q4_K_S", "Q5_K": "MOSTLY_Q5_K_S"}
"""``gguf.LlamaFileType`` of a file whose most frequent linear type is the key, where it is not ``MOSTLY_`` + type: a
label only, nothing depends on it."""


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the file as it must be: what the export writes and the check compares."""

    name: str
    source: str
    kind: str
    type: str
    shape: tuple[int, ...]  # (d_out, d_in) or (d,)
    bytes: int
    requested: str | None  # the type before a fallback, None where there was none
    reason: str  # of the fallback
    sha256: str = ""  # of the bytes, filled in while writing


def plan_tensors(config: PretrainedConfig, widths: Mapping[str, Width] | None, track: str) -> list[PlannedTensor]:
    """The type of every tensor. ``widths`` maps every linear to its width; None plans a float32 file.

    A width's bits name the type; a group size of its own plays no part, since ggml's blocks have theirs.
    """
    if track not in TRACK_TYPES:
        raise HaloError(f"unknown track '{track}': use {', '.join(TRACK_TYPES)}")
    bits = None if widths is None else {name: bits_of(width) for name, width in widths.items()}
    if bits is not None:
        check_bits(config, bits)
    return [_plan_tensor(tensor, bits, TRACK_TYPES[track]) for tensor in gguf_tensors(config)]


def check_bits(config: PretrainedConfig, bits: Mapping[str, int]) -> None:
    """Raise ``HaloError`` unless ``bits`` names every linear of the model, nothing else, at widths ggml has."""
    from ramp.quantizers.ggml import TYPE_FOR_BITS

    names = {linear.name for linear in list_linears(config)}
    missing, unknown = sorted(names - set(bits)), sorted(set(bits) - names)
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"names {unknown[0]}, which the model does not have"
        raise HaloError(f"the allocation {what}: it was made for another model")
    for name, width in sorted(bits.items()):
        if width not in TYPE_FOR_BITS:
            raise HaloError(f"{name}: no ggml type for {width} bits (there are {', '.join(map(str, TYPE_FOR_BITS))})")


def _plan_tensor(tensor: GgufTensor, bits: Mapping[str, int] | None, table_type: str) -> PlannedTensor:
    from ramp.quantizers.ggml import BLOCKS, TYPE_FOR_BITS, fallback_type, row_bytes

    wanted = "F32"
    if bits is not None and tensor.linear is not None:
        wanted = TYPE_FOR_BITS[bits[tensor.linear.name]]
    elif bits is not None and tensor.kind in ("embedding", "head"):
        wanted = table_type
    columns = tensor.shape[-1]
    kind = fallback_type(wanted, columns)
    rows = math.prod(tensor.shape[:-1])
    fell = kind != wanted
    return PlannedTensor(
        name=tensor.name,
        source=tensor.source,
        kind=tensor.kind,
        type=kind,
        shape=tensor.shape,
        bytes=rows * row_bytes(kind, columns),
        requested=wanted if fell else None,
        reason=f"rows of {columns} are not multiples of {BLOCKS[wanted][0]}" if fell else "",
    )


def read_importance(path: str | Path, fold: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Mean squared activation per input channel of every site, float32 [d_in], as the folded model sees it.

    A fold divides the activations by s, so their mean squares by s^2 (paper.md, equivalences of Scale Folding).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        statistics = load_file(require_file(path, "calibration statistics"))
    except SafetensorError as error:
        raise HaloError(
            f"{path} is not a readable calibration file ({error}): run ramp.calibration.stream again"
        ) from None
    found = {}
    for key, values in statistics.items():
        site, _, statistic = key.rpartition("/")
        if statistic == "sqmean":
            scale = fold[site].double().numpy() if site in fold else 1.0
            found[site] = (values.astype(np.float64) / np.square(scale)).astype(np.float32)
    return found


def _folded_states(
    reader: CheckpointReader, config: PretrainedConfig, tensors: list[GgufTensor], fold: dict[str, torch.Tensor]
) -> Iterator[tuple[GgufTensor, np.ndarray]]:
    """Every tensor in file order, folded, float32, one block in memory at a time."""
    groups: dict[int | None, list[GgufTensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.layer, []).append(tensor)
    states: dict[int | None, dict[str, torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.layer is None:
            yield tensor, _float_array(reader.get(tensor.source))
            continue
        if tensor.layer not in states:
            states = {tensor.layer: {t.source: reader.get(t.source).float() for t in groups[tensor.layer]}}
            if fold:
                from ramp.calibration.folding import apply_fold

                apply_fold(states[tensor.layer], fold, config)
        yield tensor, _float_array(states[tensor.layer].pop(tensor.source))


def _float_array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().numpy())


def encode(values: np.ndarray, type_name: str, importance: np.ndarray | None = None, name: str = "") -> np.ndarray:
    """``values`` (float32, any shape) as the file stores them: float32, or bytes uint8 [rows, row_bytes]."""
    if type_name == "F32":
        return values
    from ramp.quantizers.ggml import quantize_ggml

    return quantize_ggml(values, type_name, importance, name=name)


def write_gguf(
    out: str | Path,
    model_dir: str | Path,
    plan: list[PlannedTensor],
    *,
    name: str,
    fold: dict[str, torch.Tensor] | None = None,
    importance: Mapping[str, np.ndarray] | None = None,
) -> list[PlannedTensor]:
    """Write the file that ``plan`` describes; return the plan with the sha256 of every tensor's bytes.

    Streams one decoder block at a time. ``importance`` maps a site to float32 [d_in]; without it (float files) no
    tensor may be quantized. Raises ``HaloError`` if a tensor's bytes are not what was planned.
    """
    import gguf

    model = ModelFolder(model_dir)
    model.check_linears()
    config = model.config
    writer = gguf.GGUFWriter(None, model.architecture.gguf_arch)
    writer.add_type("model")
    writer.add_name(name)
    common = Counter(tensor.type for tensor in plan if tensor.kind == "linear").most_common(1)[0][0]
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES.get(common, f"MOSTLY_{common}")])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_hyperparameters(writer, config)
    add_tokenizer(writer, model_dir, config.vocab_size)
    for planned in plan:
        _announce(writer, planned)
    written = []
    with atomic_path(out) as partial:
        try:
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            tensors = gguf_tensors(config)
            for planned, (tensor, values) in zip(
                plan, _folded_states(model.reader, config, tensors, fold or {}), strict=True
            ):
                weights = _importance_of(tensor, planned, importance)
                data = encode(to_gguf_rows(values, tensor.heads), planned.type, weights, tensor.source)
                if data.nbytes != planned.bytes:
                    raise HaloError(f"{planned.name} takes {data.nbytes} bytes as {planned.type}, not {planned.bytes}")
                writer.write_tensor_data(data)
                digest = hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()
                written.append(PlannedTensor(**{**asdict(planned), "sha256": digest}))
        finally:
            writer.close()
    return written


def _announce(writer: Any, tensor: PlannedTensor) -> None:
    """Enter a tensor into the file's index before any data is written, so that the data can be streamed."""
    import gguf

    if tensor.type == "F32":
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes)
        return
    from ramp.quantizers.ggml import row_bytes

    shape = (*tensor.shape[:-1], row_bytes(tensor.type, tensor.shape[-1]))
    kind = gguf.GGMLQuantizationType[tensor.type]
    writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), tensor.bytes, raw_dtype=kind)


def _importance_of(
    tensor: GgufTensor, planned: PlannedTensor, importance: Mapping[str, np.ndarray] | None
) -> np.ndarray | None:
    """The importance of a linear's input channels; none for the tables, which llama.cpp quantizes without too."""
    if tensor.linear is None or planned.type in ("F32", "F16"):
        return None
    site = tensor.linear.site
    if importance is None or site not in importance:
        raise HaloError(f"no importance of {site} for {tensor.name}: the calibration file is of another model")
    if importance[site].shape != (tensor.linear.d_in,):
        raise HaloError(f"importance of {site} is {list(importance[site].shape)}, not [{tensor.linear.d_in}]")
    return importance[site]


def payload_bits(type_name: str) -> int:
    """Bits of a type's codes, scales not counted: the number in its name (Q4_K 4, Q5_1 5, IQ4_NL 4, F16 16)."""
    return int("".join(re.findall(r"\d+", type_name)[:1]))


def sizes_of(plan: list[PlannedTensor], bytes_file: int) -> dict[str, int]:
    """The size ledger; ``bytes_other`` is header, metadata, tokenizer, norms, biases and padding, so all sums up."""
    parts = {
        f"bytes_{kind}": sum(tensor.bytes for tensor in plan if tensor.kind == kind)
        for kind in ("linear", "embedding", "head")
    }
    return {"bytes_file": bytes_file, **parts, "bytes_other": bytes_file - sum(parts.values())}


def type_lines(plan: list[PlannedTensor]) -> str:
    """llama.cpp's ``--tensor-type-file``: ``pattern=type`` a line, the pattern a regular expression on the name.

    Read by whitespace, lower-cased and searched for in every tensor's name (tools/quantize/quantize.cpp and
    src/llama-quant.cpp of llama.cpp), hence anchored and with escaped dots.
    """
    quantized = [tensor for tensor in plan if tensor.kind in ("linear", "embedding", "head")]
    return "".join(f"^{tensor.name.replace('.', chr(92) + '.')}$={tensor.type.lower()}\n" for tensor in quantized)


def describe(
    plan: list[PlannedTensor],
    out: Path,
    config: PretrainedConfig,
    *,
    kind: str,
    model: str,
    track: str,
    fold: str,
    allocation: AllocationRecord | None,
    started: float,
) -> dict[str, Any]:
    """What ``.plan.json`` holds, for a file that has just been written to ``out``."""
    keys = ("model", "method", "budget_bits", "budget_bytes", "group_size", "fold", "quantizer", "seed", "kind")
    fallbacks = Counter(f"{t.requested} -> {t.type} ({t.reason})" for t in plan if t.requested)
    notes = [f"{text}: {count} tensors" for text, count in sorted(fallbacks.items())]
    if allocation is not None and grouped(list(allocation.bits.values())):
        notes.append("group sizes of the allocation have no counterpart: ggml's blocks have their own")
    window = sliding_window_note(config)
    return {
        "format": PLAN_FORMAT,
        "gguf": out.name,
        "kind": kind,
        "model": model,
        "architecture": architecture(config).gguf_arch,
        "track": track,
        "fold": fold,
        "allocation": None if allocation is None else allocation.model_dump(include=set(keys)),
        "tensors": [{**asdict(tensor), "shape": list(tensor.shape)} for tensor in plan],
        "sizes": sizes_of(plan, out.stat().st_size),
        "notes": notes + ([window] if window else []),
        "versions": {package: version(package) for package in ("gguf", "libgguf")},
        "wall_s": round(time.monotonic() - started, 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
