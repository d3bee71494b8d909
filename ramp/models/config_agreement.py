"""Check that a checkpoint's tensors are those that its ``config.json`` describes, made where it is first read.

transformers reads a folder that disagrees with itself without an error: a tensor that is missing becomes random
numbers, one that no module takes is dropped, a stored head makes another model of a tied one, the codes of a quantized
linear become weights. Here each is refused, in one sentence that names file and tensor. Only the headers of the files
are read, and the head where a tied model stores one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ramp.models.architecture import ATTENTION_ROLES, ModelError, architecture, list_linears
from ramp.models.empty_model import empty_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ramp.models.folder import CheckpointReader

FLOATS = ("F32", "F16", "BF16", "F64")
"""Types of a float checkpoint, as safetensors names them."""

COMPUTED = ".rotary_emb.inv_freq"
"""Ending of tensors that old checkpoints store and every model computes from its configuration."""

FLOAT_WANTED = "give the float checkpoint that it was made from"
MODELS_OWN = "correct it, or take the one that was published with the weights"
OTHER_CONFIG = "config.json and weights do not belong together"
ROWS_COMPARED = 4096  # of head and embedding at a time


def parameter_shapes(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every parameter that a checkpoint has to store: of a tied head, none.

    Raises ``ModelError`` for a configuration of which transformers can build no model.
    """
    import torch

    try:
        model = empty_model(config, torch.float32)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, KeyError) as error:
        file = Path(config.name_or_path or ".") / "config.json"
        raise ModelError(f"{file} describes no model ({' '.join(str(error).split())[:200]}): {MODELS_OWN}") from None
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def check_checkpoint(reader: CheckpointReader, config: PretrainedConfig) -> None:
    """Raise ``ModelError`` unless the tensors are float, and are exactly those of the configuration, in its shapes."""
    if config.num_hidden_layers > len(reader.names()):  # before lists of 10^8 blocks are made
        raise ModelError(
            f"{reader.model_dir}: config.json says {config.num_hidden_layers} blocks, the checkpoint has "
            f"{len(reader.names())} tensors: {OTHER_CONFIG}"
        )
    _check_float(reader, config)
    wanted = parameter_shapes(config)
    stored = {name for name in reader.names() if not name.endswith(COMPUTED)}
    if missing := [name for name in wanted if name not in stored]:
        raise _missing(reader, config, missing, stored)
    for name, shape in wanted.items():
        if reader.shape(name) != shape:
            raise ModelError(
                f"{reader.file(name)}: {name} is {list(reader.shape(name))}, its configuration says {list(shape)}: "
                f"{OTHER_CONFIG}"
            )
    head = f"{architecture(config).head}.weight"
    if surplus := sorted(stored - {*wanted, head} if config.tie_word_embeddings else stored - {*wanted}):
        raise _surplus(reader, config, surplus)
    if head in stored and head not in wanted:
        _check_tied_head(reader, config, head)


def _quantization(config: PretrainedConfig) -> str:
    """Return the quantization that a configuration names, for people; an empty string where it names none."""
    for key in ("quantization_config", "compression_config"):
        if (about := getattr(config, key, None)) is not None:
            method = about.get("quant_method") if isinstance(about, dict) else getattr(about, "quant_method", None)
            return f" ({key} of config.json{f': {method}' if method else ''})"
    return ""


def _check_float(reader: CheckpointReader, config: PretrainedConfig) -> None:
    """Raise for a checkpoint that is quantized already: by the types of its numbers, by names, by its configuration.

    A linear has a weight and perhaps a bias: any other tensor of it is a scale, a zero-point or an adapter.
    """
    named, linears = _quantization(config), {linear.name for linear in list_linears(config)}
    for name in reader.names():
        if not name.endswith(COMPUTED) and (dtype := reader.get_dtype(name)) not in FLOATS:
            raise ModelError(
                f"{reader.file(name)}: {name} has numbers of type {dtype}, the checkpoint is quantized already{named}: "
                f"{FLOAT_WANTED}"
            )
        for end in (place for place, character in enumerate(name) if character == "."):
            if name[:end] in linears and name[end + 1 :] not in ("weight", "bias"):
                raise ModelError(
                    f"{reader.file(name)}: {name} is neither weight nor bias of its linear, the checkpoint is "
                    f"quantized already{named} or holds an adapter: {FLOAT_WANTED}"
                )
    if named:
        raise ModelError(f"{reader.model_dir}: the checkpoint is quantized already{named}: {FLOAT_WANTED}")


def _missing(reader: CheckpointReader, config: PretrainedConfig, missing: list[str], stored: set[str]) -> ModelError:
    """Return the error for tensors that the checkpoint lacks; it names the first of a linear, where one is."""
    arch, linears = architecture(config), {f"{linear.name}.weight" for linear in list_linears(config)}
    if missing == [f"{arch.head}.weight"]:
        return ModelError(
            f"{_where(reader)}: no {missing[0]}, and tie_word_embeddings is false in config.json: set it to true if "
            "the head is the embedding, else fetch the model again"
        )
    name = next((name for name in missing if name in linears), missing[0])
    bare = name.removeprefix(f"{arch.blocks.partition('.')[0]}.")
    alias = next((other for other in sorted(stored) if other == bare or other.endswith(f".{name}")), None)
    return ModelError(
        f"{_where(reader)} has no tensor '{name}'{_others(missing)}, which config.json asks for: "
        + (f"it has '{alias}', rename its tensors" if alias else f"{OTHER_CONFIG}, or the checkpoint is incomplete")
    )


def _surplus(reader: CheckpointReader, config: PretrainedConfig, surplus: list[str]) -> ModelError:
    """Return the error for tensors that no module takes."""
    arch, first = architecture(config), surplus[0]
    module, _, part = first.rpartition(".")
    role = next((linear.role for linear in list_linears(config) if linear.name == module), None)
    if role and part == "bias":
        key = arch.attention_bias_key if role in ATTENTION_ROLES else arch.mlp_bias_key
        cure = f"set {key} to true, or take its own config.json" if key else "its family has none"
        return ModelError(
            f"{reader.file(first)}: {first}{_others(surplus)} is stored, and config.json gives that linear no bias: "
            f"{cure}"
        )
    return ModelError(
        f"{reader.file(first)}: no module of this {config.model_type} model takes {first}{_others(surplus)}: "
        f"{OTHER_CONFIG}"
    )


def _where(reader: CheckpointReader) -> Path:
    """Return the file that lacks a tensor: the only one, or the folder of the shards."""
    return reader.files[0] if len(reader.files) == 1 else reader.model_dir


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _check_tied_head(reader: CheckpointReader, config: PretrainedConfig, head: str) -> None:
    """Raise unless the stored head of a tied model has the numbers of its embedding."""
    embed = f"{architecture(config).embed}.weight"
    same = reader.shape(head) == reader.shape(embed)
    rows = reader.shape(embed)[0] if same else 0
    parts = (slice(start, start + ROWS_COMPARED) for start in range(0, rows, ROWS_COMPARED))
    if not same or any(bool((reader.rows(head, at) != reader.rows(embed, at)).any()) for at in parts):
        raise ModelError(
            f"{reader.file(head)}: {head} differs from {embed}, and tie_word_embeddings is true in config.json: set it "
            "to false if the model has a head of its own, or delete the tensor"
        )
