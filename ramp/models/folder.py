"""A Hugging Face checkpoint folder, read: configuration, linears, tensors, tokenizer, float model."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.cli import log
from ramp.models.architecture import Architecture, LinearSpec, ModelError, architecture, list_linears
from ramp.models.token_windows import token_windows

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


class ModelFolder:
    """A checkpoint folder whose parts are read when they are first used, and once. It never uses a network."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration in ``config.json``; raises ``ModelError`` where it is missing or unreadable."""
        from transformers import AutoConfig

        file = self.path / "config.json"
        if not file.is_file():
            raise ModelError(f"no config.json in {self.path}: give a Hugging Face checkpoint folder")
        try:
            return AutoConfig.from_pretrained(self.path, local_files_only=True)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ModelError(f"cannot read {file}: {' '.join(str(error).split())[:300]}") from None

    @cached_property
    def architecture(self) -> Architecture:
        """The row of the family's table; raises ``ModelError`` for an unknown family."""
        return architecture(self.config)

    @cached_property
    def linears(self) -> list[LinearSpec]:
        """Every quantizable linear in forward order, with shapes from the configuration."""
        return list_linears(self.config)

    @cached_property
    def reader(self) -> CheckpointReader:
        """The checkpoint's tensors by name, memory-mapped."""
        return CheckpointReader(self.path)

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        return bool(self.config.tie_word_embeddings)

    @property
    def outer(self) -> list[str]:
        """Names of the weights outside the blocks: embedding, final norm and, unless it is tied, head."""
        arch = self.architecture
        paths = (arch.embed, arch.final_norm) if self.tied else (arch.embed, arch.final_norm, arch.head)
        return [f"{path}.weight" for path in paths]

    @property
    def head_tensor(self) -> str:
        """Name of the head's weight: the embedding's, where they are tied."""
        return f"{self.architecture.embed if self.tied else self.architecture.head}.weight"

    def check_linears(self) -> None:
        """Raise ``ModelError`` unless every linear is in the checkpoint with the expected shape."""
        for linear in self.linears:
            shape = self.reader.shape(f"{linear.name}.weight")
            if shape != (linear.d_out, linear.d_in):
                raise ModelError(
                    f"{self.path}: {linear.name} is {list(shape)}, its configuration says "
                    f"[{linear.d_out}, {linear.d_in}]"
                )

    def load_float(self, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> PreTrainedModel:
        """Return the float model as ``dtype`` (None: float32): evaluation mode, no gradients, attention by SDPA."""
        import torch
        from transformers import AutoModelForCausalLM

        self.check_linears()
        model = AutoModelForCausalLM.from_pretrained(
            self.path, dtype=dtype or torch.float32, attn_implementation="sdpa", local_files_only=True
        )
        model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its types
        return model.eval().requires_grad_(False)

    def windows(self, text: str | Path, *, length: int, count: int | None) -> torch.LongTensor:
        """Return ``count`` windows spread over a text, or (None) all of them, int64 [count, length].

        They are no longer than the model's context, which a line of the log says.
        """
        context = int(self.config.max_position_embeddings)
        if length > context:
            log.info("windows of %d tokens: the model's context, not the %d asked for", context, length)
        return token_windows(self.tokenizer(), text, length=min(length, context), count=count, spread=count is not None)

    def tokenizer(self) -> Any:
        """Return the model's tokenizer; raises ``ModelError`` where its files are missing or unreadable."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except Exception as error:  # whatever transformers and tokenizers raise on broken files
            raise ModelError(
                f"{self.path} has no tokenizer that transformers can read ({' '.join(str(error).split())[:120]}): add "
                "its tokenizer files"
            ) from None


class CheckpointReader:
    """Tensors of a checkpoint by name, memory-mapped, from one file or many shards."""

    def __init__(self, model_dir: str | Path) -> None:
        from safetensors import safe_open

        self.model_dir = Path(model_dir)
        index = self.model_dir / "model.safetensors.index.json"
        if index.is_file():
            try:
                files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ModelError(f"{index} is no index of shards ({error!r}): fetch the model again") from None
        elif (self.model_dir / "model.safetensors").is_file():
            files = ["model.safetensors"]
        else:  # packages name the files that they save as they like
            files = sorted(path.name for path in self.model_dir.glob("*.safetensors")) or ["model.safetensors"]
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
        """Return the names of all tensors, sorted."""
        return sorted(self._where)

    def _handle(self, name: str) -> Any:
        try:
            return self._where[name]
        except KeyError:
            raise ModelError(
                f"{self.model_dir} has no tensor '{name}': the checkpoint lacks a tensor that its family should have"
            ) from None

    def get(self, name: str) -> torch.Tensor:
        """Return the tensor, as stored."""
        return self._handle(name).get_tensor(name)

    def get_dtype(self, name: str) -> str:
        """Return the tensor's type without reading it, as safetensors names it (``BF16``)."""
        return str(self._handle(name).get_slice(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the tensor's shape without reading it."""
        return tuple(self._handle(name).get_slice(name).get_shape())
