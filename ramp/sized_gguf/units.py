"""The units of an allocation over ggml types: every linear, the embedding and the head, and the types that each may be.

Unlike the affine grid's, this budget is that of the file: embedding and head are inside it. A unit's size is what its
tensor adds to the file, alignment included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf

from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.gguf_format.names import GgufTensor, gguf_tensors
from ramp.gguf_format.type_names import MENU
from ramp.quantizers.ggml import BLOCKS, NEEDS_IMPORTANCE, row_bytes

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAST_RESORT = "F16"
"""Type of a unit whose rows no type of the menu divides."""

TABLES = ("embedding", "head")


class MenuError(RampError):
    """A type that is not in the menu."""


@dataclass(frozen=True)
class Unit:
    """One tensor whose type is chosen, and the types that it may have, by their bits per weight."""

    tensor: GgufTensor
    types: tuple[str, ...]
    step: int  # of the backward pass: 0 the head, 1 the last block, ..., the embedding last

    @property
    def name(self) -> str:
        """Name of the tensor in the GGUF file."""
        return self.tensor.name

    @property
    def params(self) -> int:
        """Number of weights."""
        return self.tensor.shape[0] * self.tensor.shape[1]

    def bytes(self, type_name: str) -> int:
        """Return the bytes of the tensor as ``type_name``, without alignment."""
        return self.tensor.shape[0] * row_bytes(type_name, self.tensor.shape[1])

    def room(self, type_name: str) -> int:
        """Return the bytes that the tensor takes in the file, alignment included."""
        return aligned(self.bytes(type_name))

    @property
    def group(self) -> str:
        """Return what a plan counts it under: the linear's role, ``embedding`` or ``head``."""
        return self.tensor.linear.role if self.tensor.linear else self.tensor.kind


def aligned(size: int) -> int:
    """Return ``size`` rounded up to the alignment of a GGUF file's tensors, 32 bytes."""
    step = gguf.GGUF_DEFAULT_ALIGNMENT
    return -(-size // step) * step


def check_menu(names: Iterable[str]) -> tuple[str, ...]:
    """Return the types of a menu by bits per weight, each once; ``MenuError`` for one that is not offered."""
    chosen = []
    for name in names:
        upper = name.strip().upper()
        if upper not in MENU:
            raise MenuError(f"'{name}' is not offered{nearest(upper, MENU)}: choose from {', '.join(MENU)}")
        chosen.append(upper)
    return tuple(name for name in MENU if name in chosen)


def allowed_types(tensor: GgufTensor, menu: Sequence[str], tied: bool) -> tuple[str, ...]:
    """Return the types of ``menu`` that a tensor may have.

    Blocks must divide its rows. An embedding that is no head reads no activations, so it has no importance, and types
    that need one are not for it.
    """
    weighted = tensor.kind != "embedding" or tied
    fitting = [
        name for name in menu if tensor.shape[1] % BLOCKS[name][0] == 0 and (weighted or name not in NEEDS_IMPORTANCE)
    ]
    return tuple(fitting) or (LAST_RESORT,)


def list_units(config: PretrainedConfig, menu: Sequence[str] = MENU) -> list[Unit]:
    """Return the units of a model in the order of the file: embedding, blocks, head (unless it is the embedding).

    Raises ``MenuError`` where no type of the menu fits any of them.
    """
    tied, blocks = bool(config.tie_word_embeddings), config.num_hidden_layers
    found = []
    for tensor in gguf_tensors(config):
        if tensor.kind in ("linear", *TABLES):
            step = blocks - tensor.layer if tensor.layer is not None else 0
            if tensor.kind == "embedding" and not tied:
                step = blocks + 1
            found.append(Unit(tensor, allowed_types(tensor, menu, tied), step))
    if all(unit.types == (LAST_RESORT,) for unit in found):
        rows = ", ".join(str(width) for width in sorted({unit.tensor.shape[1] for unit in found}))
        raise MenuError(
            f"no type of {', '.join(menu)} fits a tensor of this model (rows of {rows} weights): choose types whose "
            "blocks divide them (32 weights in Q4_0, Q5_0, Q8_0 and IQ4_NL, 256 in the others)"
        )
    return found
