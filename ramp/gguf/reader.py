"""A GGUF file read back: its tensors by name, de-quantized, and the Hugging Face model that they make.

Reader and de-quantizer are those of llama.cpp's ``gguf`` package. The codes are written by another library, so that
no error of the writer is undone by its own inverse.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from ramp.core.files import require_file
from ramp.gguf.names import GgufError, from_gguf_rows, gguf_tensors
from ramp.models.architecture import architecture
from ramp.models.empty_model import filled_model
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from ramp.models.block_runner import Read


class GgufFile:
    """Tensors of a GGUF file, memory-mapped."""

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, "GGUF file")
        try:
            self._reader = GGUFReader(str(self.path))
        except Exception as error:  # the reader raises ValueError, IndexError or UnicodeDecodeError on broken files
            raise GgufError(f"{self.path} is not a readable GGUF file ({error}): delete it and make it again") from None
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in self._reader.tensors}

    def names(self) -> list[str]:
        """Return the names of all tensors, in file order."""
        return list(self._tensors)

    def _tensor(self, name: str) -> Any:
        try:
            return self._tensors[name]
        except KeyError:
            raise GgufError(f"{self.path} has no tensor '{name}': it is damaged or of another model") from None

    def type(self, name: str) -> str:
        """Return the tensor's ggml type, e.g. ``Q4_K``."""
        return self._tensor(name).tensor_type.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the tensor's shape in the checkpoint's order, (d_out, d_in) or (d,)."""
        return tuple(int(size) for size in reversed(self._tensor(name).shape))

    def raw(self, name: str) -> np.ndarray:
        """Return the tensor's bytes as stored, uint8 [n]."""
        return np.ascontiguousarray(self._tensor(name).data).view(np.uint8).reshape(-1)

    def values(self, name: str) -> np.ndarray:
        """Return the tensor's values, float32, in the checkpoint's shape and llama.cpp's row order."""
        tensor = self._tensor(name)
        values = dequantize(tensor.data, tensor.tensor_type)
        return np.asarray(values, dtype=np.float32).reshape(self.shape(name))

    def drop_pages(self) -> None:
        """Give back the memory of what was read so far; it is read from disk again where it is needed."""
        self._reader.data._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # of numpy.memmap

    def metadata(self, key: str) -> Any:
        """Return the value of a metadata key, None if it is absent."""
        field = self._reader.get_field(key)
        return None if field is None else field.contents()


def gguf_parameters(model_dir: str | Path, gguf_path: str | Path) -> tuple[PretrainedConfig, Read]:
    """Return a model's configuration, from ``model_dir``, and a reader of its parameters from a GGUF file.

    They are de-quantized, float32, by checkpoint names; q and k rows return to the checkpoint's order
    (``from_gguf_rows``). The reader raises ``GgufError`` where the file lacks a tensor or holds another shape.
    """
    import torch

    config, file = ModelFolder(model_dir).config, GgufFile(gguf_path)
    tensors = {tensor.source: tensor for tensor in gguf_tensors(config)}

    def read(name: str) -> torch.Tensor:
        if name not in tensors:
            raise GgufError(f"the {architecture(config).gguf_arch} layout has no tensor for {name}")
        tensor = tensors[name]
        if file.shape(tensor.name) != tensor.shape:
            raise GgufError(
                f"{file.path}: {tensor.name} is {list(file.shape(tensor.name))}, "
                f"the model's is {list(tensor.shape)}: this file belongs to another model"
            )
        values = torch.from_numpy(np.require(from_gguf_rows(file.values(tensor.name), tensor.heads), requirements="W"))
        file.drop_pages()  # a float file is as large as the model
        return values

    return config, read


def load_gguf_float(
    model_dir: str | Path, gguf_path: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Return the Hugging Face model whose parameters are the GGUF file's de-quantized tensors.

    ``dtype`` None keeps float32. The model is in evaluation mode, without gradients, attention by SDPA. Raises
    ``GgufError`` as ``gguf_parameters`` does.
    """
    import torch

    config, read = gguf_parameters(model_dir, gguf_path)
    return filled_model(config, dtype or torch.float32, torch.device(device), read)
