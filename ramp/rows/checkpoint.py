"""The packed checkpoint of a quantized row: one safetensors file, written and read, with its sizes to the byte.

``model.safetensors`` holds

| tensor | type | content |
| --- | --- | --- |
| ``{linear}.codes``, ``.scales``, ``.zeros`` | uint8, float16, uint8 | packed as in ``ramp.quantizers.packing`` |
| ``{linear}.weight`` | float16, float32 | instead, where a package's grid is not ours (``ramp.rows.size_ledger``) |
| ``{linear}.bias`` | float16 | where the linear has one |
| ``model.embed_tokens.weight.q8_0``, ``lm_head.weight.q8_0`` | uint8 [rows, cols/32*34] | track ``q8_0`` |
| ``model.embed_tokens.weight``, ``lm_head.weight`` | float16 | track ``fp16``, or rows that 32 does not divide |
| norms | float32 | folded |

and, as safetensors metadata ``ramp``, JSON with the format version, the model's configuration, the row key, and bits,
group size and shape of every linear: it loads without any other file. A tied head is not stored: it is the embedding.
``meta.json`` beside it holds the row key, the sizes and the caller's measurements; ``draw`` is the seed that drew the
calibration text, where one did.

Rows of other kinds have a ``meta.json`` only: ``stage`` ``float`` or ``released`` (the float model itself), ``grid``
``ggml`` with ``gguf`` = path of the GGUF file relative to the row's folder, and those of a package that did not run,
with the reason as ``failed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ramp.core.atomic_files import atomic_path, read_json, require_file, sha256_file, write_json
from ramp.core.errors import RampError
from ramp.core.tensor_file import Layout, TensorFile, layout_bytes, layout_of
from ramp.core.tensors import Tensors, compare, open_tensors
from ramp.gguf_format.reader import gguf_parameters
from ramp.methods.names import UNQUANTIZED
from ramp.models.architecture import Architecture, ModelError
from ramp.models.empty_model import empty_model, filled_model
from ramp.models.folder import ModelFolder
from ramp.models.memory import free_bytes
from ramp.models.streamed_model import StreamedModel, fits, model_bytes, open_model
from ramp.quantizers.affine import SCALE_MIN
from ramp.quantizers.ggml import q8_0_decode, q8_0_encode
from ramp.quantizers.sizes import q8_0_row_bytes
from ramp.quantizers.store import Packed, PackedLinears
from ramp.rows.meta_file import AGAIN, KEY, META, gguf_of, read_meta
from ramp.rows.size_ledger import DenseLinear, Stored, ledger, linear_header, linear_layout, linear_tensors

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from ramp.models.block_runner import Read

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
IN_FP16 = "stored in fp16"
"""What a note says of a table that is not in its row's track."""


class CheckpointError(RampError):
    """A row that cannot be written, or a packed file that is missing, damaged or of another format."""


@dataclass(frozen=True)
class LinearHeader:
    """Metadata of one linear: a dense one has ``packed_bytes``, others have bits and group size."""

    d_out: int
    d_in: int
    bits: int | None = None
    group_size: int | None = None
    packed_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse a linear without its sizes."""
        sizes = [self.d_out, self.d_in, *([self.packed_bytes] if self.bits is None else [self.bits, self.group_size])]
        if not all(size is not None and size > 0 for size in sizes):
            raise ValueError("a linear lacks its sizes")


@dataclass(frozen=True)
class PackedHeader:
    """Fields that the metadata of a packed checkpoint must have."""

    format_version: int
    config: dict[str, Any]  # of the model
    linears: dict[str, LinearHeader]


def save_packed(
    out_dir: str | Path,
    *,
    model_dir: str | Path,
    quantized: Mapping[str, Stored],
    others: Mapping[str, torch.Tensor],
    track: str,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a row's folder whole or not at all, linear by linear; return what ``meta.json`` holds.

    quantized: every linear of the model by name; ``PackedLinears`` are copied as they are stored. others: every other
    tensor of the (folded) model by its checkpoint name: embedding, head (unless tied), norms, ``{linear}.bias``. meta:
    the record key and whatever was measured (``wall_s``, ``peak_rss_bytes``...). Raises ``CheckpointError`` for a
    missing, surplus or misshapen tensor, and for values that float16 cannot hold.
    """
    model = ModelFolder(model_dir)
    arch, linears = model.architecture, model.linears
    specs = {spec.name: spec for spec in linears}
    stored_as = quantized.packed if isinstance(quantized, PackedLinears) else quantized.__getitem__
    shapes: dict[str, tuple[int, ...]] = {}
    headers: dict[str, dict[str, Any]] = {}
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    least = 0  # groups
    for name in quantized:  # the mapping may read them from disk: one at a time is in memory
        linear: Stored = stored_as(name)
        least += 0 if isinstance(linear, DenseLinear) else int((linear.scales <= SCALE_MIN).sum())
        shapes[name] = linear.shape
        if name in specs:
            headers[name] = linear_header(specs[name], linear)
            layout |= linear_layout(name, linear)
    rest = _check_parts(model, shapes, others)
    stored = _other_tensors(rest, arch, track)
    layout |= layout_of(stored)
    header = {
        "format_version": FORMAT_VERSION,
        "key": {key: meta[key] for key in KEY},
        "config": {
            k: v for k, v in read_json(Path(model_dir) / "config.json", dict[str, Any]).items() if k != "_name_or_path"
        },
        "linears": headers,
    }
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        path = partial / WEIGHTS
        file = TensorFile(path, layout, header)
        for name, tensor in stored.items():
            file.write(name, tensor)
        for name in specs:
            for part, tensor in linear_tensors(name, stored_as(name)).items():
                file.write(part, tensor)
        file.close(complete=True)
        written: dict[str, Any] = {
            **meta,
            "format_version": FORMAT_VERSION,
            "track": track,
            "note": "; ".join(
                filter(None, [meta.get("note", ""), _table_note(layout, arch, track), _scale_note(least)])
            ),
            "tied_embeddings": model.tied,
            "embedding_type": _stored_type(layout, arch.embed),
            "head_type": "tied" if model.tied else _stored_type(layout, arch.head),
            "sha256": sha256_file(path),
            **ledger(layout_bytes(layout), path.stat().st_size, linears, headers, arch, rest),
        }
        write_json(partial / META, written, sealed=True)
    return written


def _stored_type(tensors: Layout, module: str) -> str:
    return "q8_0" if f"{module}.weight.q8_0" in tensors else "fp16"


def _table_note(tensors: Layout, arch: Architecture, track: str) -> str:
    """Return a note for readers where embedding or head is not stored as the track says, else an empty string."""
    kept = [name for name in (arch.embed, arch.head) if f"{name}.weight" in tensors] if track == "q8_0" else []
    return f"{' and '.join(kept)} {IN_FP16}: rows are not whole Q8_0 blocks of 32" if kept else ""


def _scale_note(groups: int) -> str:
    """Return a note for readers where groups span less than the least scale can resolve, else an empty string."""
    return f"{groups} groups have the least float16 scale, 2^-24: their weights may have become zeros" if groups else ""


def _check_parts(
    model: ModelFolder, shapes: Mapping[str, tuple[int, ...]], others: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Compare the given tensors with the model's parameters; return the others to store (no tied head)."""
    wanted = {name: tuple(p.shape) for name, p in empty_model(model.config, torch.float32).named_parameters()}
    rest = dict(others)
    arch = model.architecture
    head = rest.pop(f"{arch.head}.weight", None) if model.tied else None
    if head is not None and not torch.equal(head, rest.get(f"{arch.embed}.weight", head.new_empty(0))):
        raise CheckpointError(
            f"{arch.head}.weight differs from {arch.embed}.weight in a model whose configuration ties them: "
            "set tie_word_embeddings to false, or keep them equal"
        )
    given = {f"{name}.weight": shape for name, shape in shapes.items()} | {n: tuple(t.shape) for n, t in rest.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if name not in given:
            raise CheckpointError(f"no tensor for {name}: a row must hold every parameter of its model")
        if name not in wanted:
            raise CheckpointError(f"{name} is no parameter of this {model.config.model_type} model")
        if given[name] != wanted[name]:
            raise CheckpointError(f"{name} is {list(given[name])}, the model's configuration says {list(wanted[name])}")
    return rest


def _other_tensors(rest: Mapping[str, torch.Tensor], arch: Architecture, track: str) -> dict[str, torch.Tensor]:
    tables = (f"{arch.embed}.weight", f"{arch.head}.weight")
    stored = {}
    for name, tensor in rest.items():
        if name in tables and track == "q8_0" and q8_0_row_bytes(tensor.shape[1]) is not None:
            stored[f"{name}.q8_0"] = q8_0_encode(tensor, name=name)
            continue
        half = name in tables or name.endswith(".bias")
        kept = tensor.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
        if not bool(torch.isfinite(kept).all()):
            raise CheckpointError(f"{name} has values that are NaN, infinite or beyond {kept.dtype}")
        stored[name] = kept
    return stored


def load_dequantized(
    row_dir: str | Path, model_dir: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Load the model of a row, weights de-quantized to ``dtype`` (None: float32), without gradients.

    Each linear is unpacked and de-quantized on ``device`` by itself, so the peak is the model in ``dtype`` and one
    linear. Raises ``CheckpointError`` where that does not fit on a GPU.
    """
    dtype, device = dtype or torch.float32, torch.device(device)
    config, read = row_parameters(row_dir, model_dir, dtype, device)
    if device.type != "cpu" and not fits(config, dtype, device):
        raise CheckpointError(
            f"the model of {row_dir} takes {model_bytes(config, dtype) / 1e9:.1f} GB in {dtype} and {device} has "
            f"{free_bytes(device) / 1e9:.1f} GB free: use a larger GPU or a narrower --dtype"
        )
    with _of_this_row(row_dir):
        return filled_model(config, dtype, device, read)


def open_dequantized(
    row_dir: str | Path, model_dir: str | Path, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel | StreamedModel:
    """Load the model of a row as ``load_dequantized`` does; where it does not fit, streamed by block."""
    config, read = row_parameters(row_dir, model_dir, dtype, device)
    with _of_this_row(row_dir):
        return open_model(config, dtype, device, read)


@contextmanager
def _of_this_row(row_dir: str | Path) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise CheckpointError(f"{row_dir}: {error}") from None


def row_parameters(
    row_dir: str | Path, model_dir: str | Path, dtype: torch.dtype, device: torch.device
) -> tuple[PretrainedConfig, Read]:
    """Return the configuration of a row's model and a reader of its parameters, de-quantized to ``dtype``.

    ``model_dir`` is read for float, released and ggml rows only: a packed file carries its configuration.
    """
    row_dir = Path(row_dir)
    meta = read_meta(row_dir)
    if meta.get("failed"):
        raise CheckpointError(f"{row_dir} holds no model: {meta['method']} did not run ({meta['failed']})")
    if meta["stage"] in UNQUANTIZED:
        model = ModelFolder(model_dir)
        model.check()
        return model.config, model.reader.get
    if meta["grid"] == "ggml":
        if not meta.get("gguf"):
            raise CheckpointError(f"{row_dir / META} names no GGUF file: export the row again")
        gguf = require_file(gguf_of(row_dir, meta["gguf"]), "GGUF file of the row")
        if meta.get("sha256"):  # rows of earlier versions lack it
            compare(gguf, meta["sha256"], "export it and its row again")
        return gguf_parameters(model_dir, gguf)
    return _packed_parameters(row_dir, meta, dtype, device)


def open_packed(row_dir: str | Path, meta: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Open a row's packed file: return its tensors and its ``ramp`` metadata.

    Raises ``CheckpointError`` where the file's sha256 is not that in ``meta``, or its format is another one.
    """
    path = Path(row_dir) / WEIGHTS
    tensors = open_tensors(path, "packed checkpoint", sha256=str(meta.get("sha256")), again=AGAIN)
    version = tensors.about_as(PackedHeader).format_version
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format version {version}, this code reads {FORMAT_VERSION}: {AGAIN}")
    return tensors, tensors.about


def packed_linears(tensors: Tensors, header: Mapping[str, Any]) -> PackedLinears[str]:
    """Return the linears of an open packed file that are on the affine grid, by name."""
    affine = {name: spec for name, spec in header["linears"].items() if "bits" in spec}
    return PackedLinears(
        tensors, {n: Packed(f"{n}.", spec["bits"], spec["group_size"], spec["d_in"]) for n, spec in affine.items()}
    )


def stored_value(tensors: Tensors, name: str, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a parameter outside the packed linears: from Q8_0 blocks, or as it is stored."""
    if f"{name}.q8_0" in tensors:
        return q8_0_decode(tensors[f"{name}.q8_0"].to(device), dtype)
    return tensors[name]


def _packed_parameters(
    row_dir: Path, meta: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> tuple[PretrainedConfig, Read]:
    from transformers import CONFIG_MAPPING

    path = row_dir / WEIGHTS
    tensors, header = open_packed(row_dir, meta)
    try:
        config = CONFIG_MAPPING[header["config"]["model_type"]].from_dict(header["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a model configuration that transformers cannot read: {error}") from None
    linears = packed_linears(tensors, header)

    def read(name: str) -> torch.Tensor:
        """Return one parameter: de-quantized, from Q8_0 blocks, or as it is stored."""
        linear = name.removesuffix(".weight")
        if linear in linears and name.endswith(".weight"):
            return linears.unpack(linear, linears.parts(linear, device)).dequantize(dtype)
        return stored_value(tensors, name, dtype=dtype, device=device)

    return config, read
