"""The packed checkpoint of a quantized row: one safetensors file, its size ledger to the byte, and the way back.

``model.safetensors`` holds

| tensor | type | what |
| --- | --- | --- |
| ``{linear}.codes``, ``.scales``, ``.zeros`` | uint8, float16, uint8 | packed as in ``ramp.quantizers.packing`` |
| ``{linear}.weight`` | float16, float32 | instead, where a package's grid is not ours (``ramp.rows.ledger``) |
| ``{linear}.bias`` | float16 | where the linear has one |
| ``model.embed_tokens.weight.q8_0``, ``lm_head.weight.q8_0`` | uint8 [rows, cols/32*34] | track ``q8_0`` |
| ``model.embed_tokens.weight``, ``lm_head.weight`` | float16 | track ``fp16``, or rows that 32 does not divide |
| norms | float32 | folded |

and, as safetensors metadata ``ramp``, JSON with the format version, the model's configuration, the row key, and bits,
group size and shape of every linear: it loads without any other file. A tied head is not stored: it is the embedding.
``meta.json`` beside it holds the row key, the ledger and what the caller measured.

Rows of other kinds have a ``meta.json`` only: ``stage`` ``float`` or ``released`` (the float model itself), ``grid``
``ggml`` with ``gguf`` = path of the GGUF file relative to the row's folder, and those of a package that did not run,
with the reason as ``failed``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.errors import RampError
from ramp.core.files import atomic_path, read_json, require_file, sha256_file, write_json
from ramp.models.architecture import Architecture, architecture, list_linears
from ramp.models.folder import load_float, read_config
from ramp.quantizers.sizes import q8_0_row_bytes
from ramp.rows.ledger import LEDGER, ledger, linear_header, linear_tensors

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from ramp.rows.ledger import Stored

__all__ = ["KEY", "LEDGER", "TRACKS", "CheckpointError", "load_dequantized", "read_meta", "save_packed"]

FORMAT_VERSION = 1
WEIGHTS, META = "model.safetensors", "meta.json"
KEY = ("study", "model", "method", "grid", "stage", "budget_bits", "group_size", "fold", "seed")
"""The record key: which row of the records this checkpoint is."""

TRACKS = ("q8_0", "fp16")
"""How embedding and head are stored, alike for every method of a study."""


class CheckpointError(RampError):
    """A row that cannot be written, or a packed file that is missing, damaged or of another format."""


def save_packed(
    out_dir: str | Path,
    *,
    model_dir: str | Path,
    quantized: Mapping[str, Stored],
    others: Mapping[str, torch.Tensor],
    track: str,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a row's folder whole or not at all; return what ``meta.json`` holds.

    quantized: every linear of the model by name. others: every other tensor of the (folded) model by its
    checkpoint name: embedding, head (unless tied), norms, ``{linear}.bias``. meta: the record key and whatever
    was measured (``wall_s``, ``peak_rss_bytes``...). Raises ``CheckpointError`` for a missing, surplus or
    misshapen tensor, and for values that float16 cannot hold.
    """
    from safetensors.torch import save_file

    missing = [key for key in KEY if key not in meta]
    if missing:
        raise CheckpointError(f"the row's meta lacks {', '.join(missing)}: give all of {', '.join(KEY)}")
    if track not in TRACKS:
        raise CheckpointError(f"unknown track '{track}' (known: {', '.join(TRACKS)})")
    config = read_config(model_dir)
    arch, linears = architecture(config), list_linears(config)
    tied = bool(config.tie_word_embeddings)
    rest = _check_parts(config, quantized, others)
    tensors: dict[str, torch.Tensor] = {}
    headers: dict[str, dict[str, Any]] = {}
    for spec in linears:
        linear = quantized[spec.name]  # read once: the mapping may unpack it from disk
        tensors |= linear_tensors(spec.name, linear)
        headers[spec.name] = linear_header(spec, linear)
    tensors.update(_other_tensors(rest, arch, track))

    header = {
        "format_version": FORMAT_VERSION,
        "key": {key: meta[key] for key in KEY},
        "config": {k: v for k, v in read_json(Path(model_dir) / "config.json").items() if k != "_name_or_path"},
        "linears": headers,
    }
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        path = partial / WEIGHTS
        save_file(tensors, path, metadata={"ramp": json.dumps(header, sort_keys=True)})
        written: dict[str, Any] = {
            **meta,
            "format_version": FORMAT_VERSION,
            "track": track,
            "note": "; ".join(filter(None, [meta.get("note", ""), _table_note(tensors, arch, track)])),
            "tied_embeddings": tied,
            "embedding_type": _stored_type(tensors, arch.embed),
            "head_type": "tied" if tied else _stored_type(tensors, arch.head),
            "sha256": sha256_file(path),
            **ledger(tensors, path.stat().st_size, linears, headers, arch, rest),
        }
        write_json(partial / META, written)
    return written


def _stored_type(tensors: Mapping[str, torch.Tensor], module: str) -> str:
    return "q8_0" if f"{module}.weight.q8_0" in tensors else "fp16"


def _table_note(tensors: Mapping[str, torch.Tensor], arch: Architecture, track: str) -> str:
    """What a reader must know where a table is not stored as the track says."""
    kept = [name for name in (arch.embed, arch.head) if f"{name}.weight" in tensors] if track == "q8_0" else []
    return f"{' and '.join(kept)} stored in fp16: rows are not whole Q8_0 blocks of 32" if kept else ""


def _check_parts(
    config: PretrainedConfig, quantized: Mapping[str, Stored], others: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Hold the given tensors against the model's parameters; return the others to store (no tied head)."""
    import torch

    wanted = {name: tuple(p.shape) for name, p in empty_model(config, torch.float32).named_parameters()}
    rest = dict(others)
    arch = architecture(config)
    head = rest.pop(f"{arch.head}.weight", None) if config.tie_word_embeddings else None
    if head is not None and not torch.equal(head, rest.get(f"{arch.embed}.weight", head.new_empty(0))):
        raise CheckpointError(
            f"{arch.head}.weight differs from {arch.embed}.weight in a model whose configuration ties them: "
            "set tie_word_embeddings to false, or keep them equal"
        )
    given = {f"{name}.weight": q.shape for name, q in quantized.items()} | {n: tuple(t.shape) for n, t in rest.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if name not in given:
            raise CheckpointError(f"no tensor for {name}: a row must hold every parameter of its model")
        if name not in wanted:
            raise CheckpointError(f"{name} is no parameter of this {config.model_type} model")
        if given[name] != wanted[name]:
            raise CheckpointError(f"{name} is {list(given[name])}, the model's configuration says {list(wanted[name])}")
    names = {x.name for x in list_linears(config)}
    if names != quantized.keys():
        odd = sorted(names ^ quantized.keys())[0]
        raise CheckpointError(f"{odd}: exactly the {len(names)} linears of the blocks are quantized, the rest is not")
    return rest


def _other_tensors(rest: Mapping[str, torch.Tensor], arch: Architecture, track: str) -> dict[str, torch.Tensor]:
    import torch

    from ramp.quantizers.ggml import q8_0_encode

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
        stored[name] = kept.clone()  # safetensors refuses tensors that share memory
    return stored


def read_meta(row_dir: str | Path) -> dict[str, Any]:
    """A row's ``meta.json``; ``CheckpointError`` where there is none or it does not hold the record key."""
    path = require_file(Path(row_dir) / META, "row's meta.json")
    meta = read_json(path)
    missing = [key for key in KEY if key not in meta] if isinstance(meta, dict) else list(KEY)
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: delete the row and quantize it again")
    return meta


def empty_model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a configuration with parameters that have shapes and no memory; its buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.tie_weights()  # replacing parameters by empty ones untied them
    return model


def load_dequantized(
    row_dir: str | Path,
    model_dir: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> PreTrainedModel:
    """The model that a row stands for, weights de-quantized to ``dtype`` (None: float32), without gradients.

    Each linear is unpacked and de-quantized on ``device`` by itself, so the peak is the model in ``dtype`` and one
    linear. ``model_dir`` is read for float, released and ggml rows only: a packed file carries its configuration.
    """
    import torch

    row_dir, dtype, device = Path(row_dir), dtype or torch.float32, torch.device(device)
    meta = read_meta(row_dir)
    if meta.get("failed"):
        raise CheckpointError(f"{row_dir} holds no model: {meta['method']} did not run ({meta['failed']})")
    if meta["stage"] in ("float", "released"):
        return load_float(model_dir, dtype, device)
    if meta["grid"] == "ggml":
        from ramp.gguf.reader import load_gguf_float

        if not isinstance(meta.get("gguf"), str):
            raise CheckpointError(f"{row_dir / META} names no GGUF file: export the row again")
        path = require_file(row_dir / meta["gguf"], "GGUF file of the row")
        return load_gguf_float(model_dir, path, dtype, device)
    return _load_packed(row_dir / WEIGHTS, meta, dtype, device)


def open_packed(row_dir: str | Path) -> tuple[Any, dict[str, Any]]:
    """An open packed file (safetensors handle, torch) and its ``ramp`` metadata, its bytes checked by meta.json."""
    return _read_header(Path(row_dir) / WEIGHTS, read_meta(row_dir))


def _read_header(path: Path, meta: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An open packed file and its ``ramp`` metadata, after its bytes were held against ``meta.json``."""
    from safetensors import SafetensorError, safe_open

    require_file(path, "packed checkpoint")
    again = "delete the row and quantize it again"
    size = path.stat().st_size
    said = meta.get("bytes_stored", meta.get("bytes_file"))
    if size != said:
        raise CheckpointError(f"{path} has {size} bytes, its meta.json says {said}: {again}")
    if sha256_file(path) != meta.get("sha256"):
        raise CheckpointError(f"{path} is damaged, its sha256 is not the one in meta.json: {again}")
    try:
        handle = safe_open(str(path), framework="pt")
        header = json.loads((handle.metadata() or {})["ramp"])
        version = header["format_version"]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no packed checkpoint of this suite ({error}): {again}") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format version {version}, this code reads {FORMAT_VERSION}: {again}")
    return handle, header


def _config_of(path: Path, header: Mapping[str, Any]) -> PretrainedConfig:
    from transformers import CONFIG_MAPPING

    values = header["config"]
    try:
        return CONFIG_MAPPING[values["model_type"]].from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a model configuration that transformers cannot read: {error}") from None


def _load_packed(path: Path, meta: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    from safetensors import SafetensorError
    from torch import nn

    from ramp.quantizers.ggml import q8_0_decode
    from ramp.quantizers.packing import from_tensors

    handle, header = _read_header(path, meta)
    config = _config_of(path, header)
    model = empty_model(config, dtype)
    names = set(handle.keys())

    def read(name: str) -> torch.Tensor:
        """One parameter, from its packed parts, its Q8_0 blocks or as it is."""
        linear = name.removesuffix(".weight")
        spec = header["linears"].get(linear, {}) if name.endswith(".weight") else {}
        if "bits" in spec:  # a dense linear has none and is read as it is
            parts = {part: handle.get_tensor(f"{linear}.{part}").to(device) for part in ("codes", "scales", "zeros")}
            packed = from_tensors(**parts, bits=spec["bits"], group_size=spec["group_size"], d_in=spec["d_in"])
            return packed.dequantize(dtype)
        if f"{name}.q8_0" in names:
            return q8_0_decode(handle.get_tensor(f"{name}.q8_0").to(device), dtype)
        return handle.get_tensor(name).to(device, dtype)

    for name, parameter in list(model.named_parameters()):
        try:
            value = read(name)
        except SafetensorError as error:
            raise CheckpointError(f"{path} lacks a part of {name} ({error}): quantize the row again") from None
        if value.shape != parameter.shape:
            raise CheckpointError(f"{path}: {name} is {list(value.shape)}, its model wants {list(parameter.shape)}")
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    model.tie_weights()
    nn.Module.to(model, device)  # the buffers
    return model.eval().requires_grad_(False)
