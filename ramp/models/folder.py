"""A Hugging Face checkpoint folder, read: configuration, tensors, tokenizer, float model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel
from ramp.models.architecture import LinearSpec, ModelError, list_linears


def read_config(model_dir: str | Path) -> PretrainedConfig:
    """The model's configuration, read from ``config.json`` without touching a network."""
    from transformers import AutoConfig

    path = Path(model_dir) / "config.json"
    if not path.is_file():
        raise ModelError(f"no config.json in {model_dir}: give a Hugging Face checkpoint folder")
    try:
        return AutoConfig.from_pretrained(model_dir, local_files_only=True)
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None


class CheckpointReader:
    """Tensors of a Hugging Face checkpoint by name, memory-mapped, from one file or many shards."""

    def __init__(self, model_dir: str | Path) -> None:
        from safetensors import safe_open

        self.model_dir = Path(model_dir)
        index = self.model_dir / "model.safetensors.index.json"
        if index.is_file():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._where: dict[str, Any] = {}
        for file in files:
            path = self.model_dir / file
            if not path.is_file():
                raise ModelError(f"no {file} in {model_dir}: the checkpoint is incomplete, fetch the model again")
            try:
                handle = safe_open(str(path), framework="pt")
            except Exception as error:  # safetensors raises its own undocumented classes
                raise ModelError(
                    f"{path} is not a readable safetensors file ({error}): fetch the model again"
                ) from None
            for name in handle.keys():  # noqa: SIM118 - safe_open is no dict
                self._where[name] = handle

    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._where)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def _handle(self, name: str) -> Any:
        try:
            return self._where[name]
        except KeyError:
            raise ModelError(
                f"{self.model_dir} has no tensor '{name}': the checkpoint lacks a linear that its family should have"
            ) from None

    def get(self, name: str) -> torch.Tensor:
        """The tensor, as stored."""
        return self._handle(name).get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, without reading it."""
        return tuple(self._handle(name).get_slice(name).get_shape())


def check_linears(reader: CheckpointReader, linears: list[LinearSpec]) -> None:
    """Raise ``ModelError`` unless every linear is in the checkpoint with the expected shape."""
    for linear in linears:
        shape = reader.shape(f"{linear.name}.weight")
        if shape != (linear.d_out, linear.d_in):
            raise ModelError(
                f"{reader.model_dir}: {linear.name} is {list(shape)}, its configuration says [{linear.d_out}, {linear.d_in}]"
            )


def load_float(
    model_dir: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """The float model, in evaluation mode, without gradients, attention by SDPA. ``dtype`` None keeps float32."""
    import torch
    from transformers import AutoModelForCausalLM

    config = read_config(model_dir)
    check_linears(CheckpointReader(model_dir), list_linears(config))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype or torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its types
    return model.eval().requires_grad_(False)


def load_tokenizer(model_dir: str | Path) -> Any:
    """The model's tokenizer, from its folder alone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
