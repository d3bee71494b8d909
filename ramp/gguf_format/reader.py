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

from ramp.core.arithmetic import share
from ramp.core.atomic_files import require_file
from ramp.gguf_format.header import check_header
from ramp.gguf_format.names import GgufError, from_gguf_rows, gguf_tensors
from ramp.models.architecture import architecture
from ramp.models.empty_model import filled_model
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from ramp.models.block_runner import Read
    from ramp.models.streamed_model import StreamedModel


PIECE = 1 << 18
"""Weights that are de-quantized at once: all that is made on the way stays in the processor's cache. Measured on random
blocks, against a thousand rows of 4,096 at once: 1.2 to 2.9 times as fast, Q6_K 0.85."""


class GgufFile:
    """Tensors of a GGUF file, memory-mapped."""

    def __init__(self, path: str | Path) -> None:
        self.path = require_file(path, "GGUF file")
        check_header(self.path)
        try:
            self._reader = GGUFReader(str(self.path))
        except Exception as error:  # the reader raises ValueError, IndexError or UnicodeDecodeError on broken files
            raise GgufError(f"{self.path} is not a readable GGUF file ({error}): get or make it again") from None
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

    def offset(self, name: str) -> int:
        """Return where the tensor's bytes begin in the file."""
        return int(self._tensor(name).data_offset)

    def values(self, name: str) -> np.ndarray:
        """Return the tensor's values, float32, in the checkpoint's shape and llama.cpp's row order.

        The threads of reproducible arithmetic share the rows: one core makes some 100 million weights a second.
        """
        tensor, shape = self._tensor(name), self.shape(name)
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        values = np.empty((len(rows), shape[-1]), dtype=np.float32)

        def make(run: slice) -> None:
            values[run] = dequantize(rows[run], tensor.tensor_type)

        share(make, len(rows), max(1, PIECE // max(1, shape[-1])))
        return values.reshape(shape)

    def metadata_keys(self) -> list[str]:
        """Return the keys of all metadata, in file order."""
        return list(self._reader.fields)

    def drop_pages(self) -> None:
        """Give back the memory of what was read so far; it is read from disk again where it is needed."""
        self._reader.data._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # of numpy.memmap

    def metadata(self, key: str) -> Any:
        """Return the value of a metadata key, None if it is absent."""
        field = self._reader.get_field(key)
        return None if field is None else field.contents()


def gguf_parameters(model_dir: str | Path, gguf_path: str | Path) -> tuple[PretrainedConfig, Read]:
    """Return a model's configuration, from ``model_dir``, and a reader of its parameters from a GGUF file."""
    config = ModelFolder(model_dir).config
    return config, parameter_reader(GgufFile(gguf_path), config)


def parameter_reader(file: GgufFile, config: PretrainedConfig) -> Read:
    """Return a function from a parameter's name to its values in a file: de-quantized, float32, in checkpoint order.

    q and k rows return to that order (``from_gguf_rows``). Raises ``GgufError`` where the file holds a tensor that the
    configuration has no place for; the function, where it lacks one or holds another shape.
    """
    import torch

    tensors = {tensor.source: tensor for tensor in gguf_tensors(config)}
    if surplus := sorted({*file.names()} - {tensor.name for tensor in tensors.values()}):
        raise GgufError(f"{file.path}: no module of this {config.model_type} model takes the tensor {surplus[0]}")

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

    return read


def streamed_file(model_dir: str | Path, path: Path) -> StreamedModel:
    """Return the model of a GGUF file in float32, one block of it in memory at a time, on the processor."""
    import torch

    from ramp.models.streamed_model import StreamedModel

    return StreamedModel(*gguf_parameters(model_dir, path), dtype=torch.float32, device=torch.device("cpu"))


def gguf_float(file: GgufFile, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model of a configuration with a file's de-quantized tensors, float32, on the processor.

    It is in evaluation mode, without gradients, attention by SDPA. Raises ``GgufError`` as ``parameter_reader`` does.
    """
    import torch

    return filled_model(config, torch.float32, torch.device("cpu"), parameter_reader(file, config))
