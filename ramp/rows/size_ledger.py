"""The linears of a row as tensors, and the row's sizes to the byte.

A linear is on the affine grid (``QuantizedLinear``, stored packed; ``PackedLinear``, packed already) or, from an
external package, on a grid that ours cannot hold (``DenseLinear``, stored as its de-quantized weight). The ledger
counts a dense linear at the bytes that it takes in the package's own packing; the file on disk is then larger, and
``bytes_stored`` is its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ramp.core.errors import RampError
from ramp.core.tensor_file import Layout, layout_of
from ramp.models.architecture import Architecture, LinearSpec
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.packing import to_tensors
from ramp.quantizers.sizes import bits_nominal, linear_bytes
from ramp.quantizers.store import PARTS, PackedLinear, packed_layout


@dataclass
class DenseLinear:
    """A weight on a grid that the affine one cannot hold."""

    weight: torch.Tensor  # float16 or float32 [d_out, d_in], de-quantized
    packed_bytes: int  # what it takes as its package packs it: codes and all that they need

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return int(self.weight.shape[0]), int(self.weight.shape[1])


Stored = QuantizedLinear | PackedLinear | DenseLinear


def linear_tensors(name: str, linear: Stored) -> dict[str, torch.Tensor]:
    """Return the file's tensors of one linear by name, contiguous and on the host.

    Those of ``ramp.quantizers.packing`` (codes, scales, zero-points), or a dense linear's ``weight`` [d_out, d_in].
    """
    if isinstance(linear, DenseLinear):
        parts = {"weight": linear.weight}
    elif isinstance(linear, PackedLinear):
        parts = {part: getattr(linear, part) for part in PARTS}
    else:
        parts = to_tensors(linear)
    return {f"{name}.{part}": tensor.cpu().contiguous() for part, tensor in parts.items()}


def linear_layout(name: str, linear: Stored) -> Layout:
    """Return the layout of ``linear_tensors``, without making them."""
    if isinstance(linear, DenseLinear):
        return layout_of({f"{name}.weight": linear.weight})
    return packed_layout(f"{name}.", *linear.shape, linear.bits, linear.group_size)


def linear_header(spec: LinearSpec, linear: Stored) -> dict[str, Any]:
    """Return the file's metadata of one linear; a dense one has no ``bits``."""
    shape = {"d_out": spec.d_out, "d_in": spec.d_in}
    if isinstance(linear, DenseLinear):
        return {**shape, "packed_bytes": linear.packed_bytes}
    return {**shape, "bits": linear.bits, "group_size": linear.group_size}


def counted_bytes(header: Mapping[str, Any]) -> int:
    """Return the packed bytes of one linear, from its ``linear_header``."""
    if "packed_bytes" in header:
        return int(header["packed_bytes"])
    return linear_bytes(header["d_out"], header["d_in"], header["bits"], header["group_size"])


def ledger(
    tensors: Mapping[str, int],
    bytes_stored: int,
    linears: Sequence[LinearSpec],
    headers: Mapping[str, Mapping[str, Any]],
    arch: Architecture,
    rest: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """Return the sizes of a row: parts that sum to ``bytes_file``, and four bits per weight.

    tensors: bytes of what the file of ``bytes_stored`` bytes holds; headers: ``linear_header`` of every linear.
    ``bytes_other``: norms, biases and the safetensors header.
    ``bits_nominal``: payload width, weighted by parameters (and its unweighted mean over linears), None where a linear
    is dense; ``bpw_linear``: scales and zeros counted too; ``bpw_file``: the whole file over all parameters of the
    model, a tied head counted once.
    """

    def stored(*names: str) -> int:
        return sum(tensors[name] for name in names if name in tensors)

    dense = {name: header["packed_bytes"] for name, header in headers.items() if "packed_bytes" in header}
    excess = sum(stored(f"{name}.weight") - packed for name, packed in dense.items())
    parts = [f"{x.name}.{part}" for x in linears for part in ("codes", "scales", "zeros", "weight")]
    bytes_linear = stored(*parts) - excess
    expected = sum(counted_bytes(headers[x.name]) for x in linears)
    if bytes_linear != expected:  # the budget's arithmetic and the file must never drift apart
        raise RampError(
            f"packed linears take {bytes_linear} bytes, ramp.quantizers.sizes says {expected}: report this bug"
        )
    bytes_file = bytes_stored - excess
    bytes_embedding = stored(f"{arch.embed}.weight", f"{arch.embed}.weight.q8_0")
    bytes_head = stored(f"{arch.head}.weight", f"{arch.head}.weight.q8_0")
    weighted = unweighted = None
    if not dense:
        weighted, unweighted = bits_nominal({name: header["bits"] for name, header in headers.items()}, linears)
    params = sum(x.params for x in linears)
    return {
        **({"bytes_stored": bytes_stored} if dense else {}),
        "bytes_file": bytes_file,
        "bytes_linear": bytes_linear,
        "bytes_embedding": bytes_embedding,
        "bytes_head": bytes_head,
        "bytes_other": bytes_file - bytes_linear - bytes_embedding - bytes_head,
        "bits_nominal": weighted,
        "bits_nominal_unweighted": unweighted,
        "bpw_linear": 8 * bytes_linear / params,
        "bpw_file": 8 * bytes_file / (params + sum(t.numel() for t in rest.values())),
    }
