"""Write a GGUF file from a float checkpoint, by an allocation or in float32, with one block in memory at a time."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from ramp.core.atomic_files import atomic_path, write_json, write_text
from ramp.core.cli import log
from ramp.core.tensors import load_tensors
from ramp.export.plan import GgufPlan, PlannedTensor, plan_notes, plan_tensors, sizes_of, type_lines
from ramp.gguf_format.names import (
    GgufError,
    GgufTensor,
    add_hyperparameters,
    check_exportable,
    checkpoint_values,
    gguf_tensors,
    to_gguf_rows,
)
from ramp.gguf_format.vocabulary import add_tokenizer
from ramp.models.architecture import architecture
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.problem.allocation import AllocationRecord
from ramp.quantizers.ggml import quantize_ggml, row_bytes
from ramp.quantizers.quantize_rows import RowQuantizer

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

FILE_TYPES = {"F32": "ALL_F32", "Q3_K": "MOSTLY_Q3_K_S", "Q4_K": "MOSTLY_Q4_K_S", "Q5_K": "MOSTLY_Q5_K_S"}
"""``gguf.LlamaFileType`` of a file whose most frequent linear type is the key, where it is not ``MOSTLY_`` + type. The
value is a label: nothing depends on it."""

ROW_KEYS = ("model", "method", "budget_bits", "budget_bytes", "group_size", "fold", "quantizer", "seed", "kind")
"""Fields of an allocation that a plan repeats."""


def export(
    model_dir: str | Path,
    out: str | Path,
    allocation: AllocationRecord | None = None,
    calibration: str | Path | None = None,
    *,
    fold: str | Path | None = None,
    track: str = "q8_0",
    workers: int = 1,
) -> GgufPlan:
    """Write a GGUF file and its ``.plan.json``, with an allocation ``.types.txt`` too; return the plan.

    allocation: None writes the unfolded model in float32. The weights are the float
    checkpoint's with the scales of the file ``fold`` applied, their importance the mean squares of the file
    ``calibration`` divided by s^2; ``workers`` processes quantize. Raises ``GgufError`` for what GGUF cannot hold,
    before anything is written.
    """
    started, model_dir, out = time.monotonic(), Path(model_dir), Path(out)
    if out.suffix != ".gguf":
        raise GgufError(f"{out} is not named *.gguf: llama.cpp's tools expect that ending")
    config = ModelFolder(model_dir).config
    scales: dict[str, torch.Tensor] = {}
    if fold is not None:
        from ramp.calibration.folding import load_fold

        scales = load_fold(fold, config)
    widths = None if allocation is None else allocation.bits
    planned = plan_tensors(config, widths, track)
    name = model_dir.name if allocation is None else allocation.model
    importance = {} if calibration is None else read_importance(calibration, scales, config)
    tensors = write_gguf(out, model_dir, planned, name=name, fold=scales, importance=importance, workers=workers)
    plan = GgufPlan(
        gguf=out.name,
        kind="float" if allocation is None else "quantized",
        model=name,
        architecture=architecture(config).gguf_arch,
        track="f32" if allocation is None else track,
        fold="none" if fold is None else Path(fold).stem,
        allocation=None if allocation is None else allocation.model_dump(include=set(ROW_KEYS)),
        tensors=tensors,
        sizes=sizes_of(tensors, out.stat().st_size),
        notes=plan_notes(tensors, widths, config),
        versions={package: version(package) for package in ("gguf", "libgguf")},
        wall_s=round(time.monotonic() - started, 3),
    )
    if allocation is not None:
        write_text(out.with_suffix(".types.txt"), type_lines(tensors))
    write_json(out.with_suffix(".plan.json"), asdict(plan), sealed=True)
    log.info("%s: %d bytes, linears %d", out.name, plan.sizes["bytes_file"], plan.sizes["bytes_linear"])
    for note in plan.notes:
        log.info("%s: %s", out.name, note)
    return plan


def read_importance(
    path: str | Path, fold: Mapping[str, torch.Tensor], config: PretrainedConfig
) -> dict[str, np.ndarray]:
    """Return GGUF tensor -> mean squared activation per input channel in the folded model, float32 [d_in].

    A fold divides the activations by s, so their mean squares by s^2 (``ramp.calibration.folding``). Raises
    ``GgufError`` for statistics of another model.
    """
    again = "run ramp.calibration again"
    statistics = load_tensors(path, "calibration statistics", framework="np", again=again)
    found = {}
    for tensor in gguf_tensors(config):
        if (linear := tensor.linear) is None:
            continue
        values = statistics.get(f"{linear.site}/sqmean")
        if values is None or values.shape != (linear.d_in,):
            what = "nothing" if values is None else f"{values.shape[0]} channels"
            raise GgufError(f"{path} holds {what} of {linear.site}: it is of another model")
        scale = fold[linear.site].double().numpy() if linear.site in fold else 1.0
        found[tensor.name] = (values.astype(np.float64) / np.square(scale)).astype(np.float32)
    return found


def _folded_states(
    reader: CheckpointReader, config: PretrainedConfig, fold: dict[str, torch.Tensor]
) -> Iterator[tuple[GgufTensor, np.ndarray]]:
    """Yield every tensor in file order, folded, float32, with one block in memory at a time."""
    for layer, group in groupby(gguf_tensors(config), key=lambda tensor: tensor.layer):
        tensors = list(group)
        state = {tensor.source: checkpoint_values(reader, tensor, config) for tensor in tensors}
        if fold and layer is not None:
            from ramp.calibration.folding import apply_fold

            apply_fold(state, fold, config)
        for tensor in tensors:
            yield tensor, np.ascontiguousarray(state.pop(tensor.source).numpy())


def write_gguf(
    out: str | Path,
    model_dir: str | Path,
    planned: Sequence[PlannedTensor],
    *,
    name: str,
    fold: dict[str, torch.Tensor],
    importance: Mapping[str, np.ndarray],
    workers: int = 1,
) -> list[PlannedTensor]:
    """Quantize and write the file of the ``planned`` tensors; return them with the sha256 of their bytes.

    ``importance`` maps a linear's tensor to float32 [d_in]; a float file needs none. ``workers`` processes share the
    rows of a tensor. Raises ``GgufError`` if a tensor takes other bytes than planned.
    """
    model = ModelFolder(model_dir)
    check_exportable(model.config)
    model.check()

    def data(quantizer: RowQuantizer | None) -> Iterator[np.ndarray]:
        for plan, (tensor, values) in zip(planned, _folded_states(model.reader, model.config, fold), strict=True):
            weighted = tensor.linear is not None and plan.type not in ("F32", "F16")  # no tables, as in llama.cpp
            weights = importance[plan.name] if weighted else None
            rows = to_gguf_rows(values, tensor.heads)
            if plan.type == "F32":
                yield rows
            elif quantizer is None:
                yield quantize_ggml(rows, plan.type, weights, name=tensor.source)
            else:
                yield quantizer.quantize(rows, plan.type, weights, tensor.source)

    if workers <= 1 or all(plan.type == "F32" for plan in planned):
        return write_file(out, model, planned, data(None), name=name)
    with RowQuantizer(workers) as quantizer:
        return write_file(out, model, planned, data(quantizer), name=name)


def header(model: ModelFolder, planned: Sequence[PlannedTensor], name: str) -> gguf.GGUFWriter:
    """Return a writer that holds everything of a file but its tensors' data."""
    config = model.config
    writer = gguf.GGUFWriter(None, architecture(config).gguf_arch)
    writer.add_type("model")
    writer.add_name(name)
    common = Counter(tensor.type for tensor in planned if tensor.kind == "linear").most_common(1)[0][0]
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES.get(common, f"MOSTLY_{common}")])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_hyperparameters(writer, config)
    add_tokenizer(writer, model.path, config.vocab_size)
    for plan in planned:  # into the file's index before any data is written, so that the data can be streamed
        shape = plan.shape if plan.type == "F32" else (*plan.shape[:-1], row_bytes(plan.type, plan.shape[-1]))
        dtype = np.dtype(np.float32 if plan.type == "F32" else np.uint8)
        kind = gguf.GGMLQuantizationType[plan.type]
        writer.add_tensor_info(plan.name, shape, dtype, plan.bytes, raw_dtype=kind)
    return writer


def write_header(writer: gguf.GGUFWriter, path: Path) -> None:
    """Start a file: header, metadata and index."""
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def write_file(
    out: str | Path, model: ModelFolder, planned: Sequence[PlannedTensor], data: Iterable[np.ndarray], *, name: str
) -> list[PlannedTensor]:
    """Write a file of tensors that are coded already; return ``planned`` with the sha256 of their bytes.

    data: one array per tensor, in their order. Raises ``GgufError`` if a tensor takes other bytes than planned.
    """
    writer = header(model, planned, name)
    written = []
    with atomic_path(out) as partial:
        try:
            write_header(writer, partial)
            for plan, coded in zip(planned, data, strict=True):
                if coded.nbytes != plan.bytes:
                    raise GgufError(f"{plan.name} takes {coded.nbytes} bytes as {plan.type}, not {plan.bytes}")
                writer.write_tensor_data(coded)
                digest = hashlib.sha256(np.ascontiguousarray(coded).data).hexdigest()
                written.append(replace(plan, sha256=digest))
        finally:
            writer.close()
    return written
