"""Quantized linears between being made and being packed into a checkpoint: on disk, not in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ramp.core.tensor_file import TensorFile
from ramp.models.architecture import LinearSpec
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.packing import from_tensors, packed_length, to_tensors
from ramp.quantizers.sizes import own_group
from ramp.quantizers.widths import Width, bits_of


class SpilledLinears(Mapping[str, QuantizedLinear]):
    """Quantized linears, packed in a temporary file: a 7B's codes would take 6.6 GB of memory unpacked."""

    def __init__(self, path: Path, linears: Sequence[LinearSpec], widths: Mapping[str, Width], group_size: int) -> None:
        self._path, self._widths = path, widths
        self._groups = {x.name: own_group(x.d_in, widths[x.name], group_size, x.name) for x in linears}
        self._file = TensorFile(path, bank_layout(linears, {n: [w] for n, w in widths.items()}, group_size), {})
        self._reader: Any = None

    def put(self, name: str, q: QuantizedLinear) -> None:
        """Pack one linear; its width and groups are those that the file was laid out for."""
        for part, tensor in to_tensors(q).items():
            self._file.write(f"{name}/{self._widths[name]}/{part}", tensor)

    def finish(self) -> None:
        """No more linears; an error if one is missing. From here on the mapping can be read."""
        self._file.close(complete=True)
        self._reader = safe_open(str(self._path), framework="pt")

    def __getitem__(self, name: str) -> QuantizedLinear:
        width, group_size = self._widths[name], self._groups[name]
        codes, scales, zeros = (self._reader.get_tensor(f"{name}/{width}/{p}") for p in ("codes", "scales", "zeros"))
        d_in = scales.shape[1] * group_size
        return from_tensors(codes, scales, zeros, bits=bits_of(width), group_size=group_size, d_in=d_in)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


# --- writing ---------------------------------------------------------------------------------------------------------


def bank_layout(
    linears: Sequence[LinearSpec], widths: Mapping[str, Sequence[Width]], group_size: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every packed tensor, known before anything is quantized; widths: linear -> its menu."""
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for x in linears:
        for width in widths[x.name]:
            bits, groups = bits_of(width), x.d_in // own_group(x.d_in, width, group_size, x.name)
            layout[f"{x.name}/{width}/codes"] = ("U8", (x.d_out, packed_length(x.d_in, bits)))
            layout[f"{x.name}/{width}/scales"] = ("F16", (x.d_out, groups))
            layout[f"{x.name}/{width}/zeros"] = ("U8", (packed_length(x.d_out * groups, bits),))
    return layout
