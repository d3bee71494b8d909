"""The bank: every linear at every width of the menu, quantized once, packed on disk, memory-mapped.

A search assembles candidates from it without quantizing again. Its weights come from the folded float model and its
Hessians from float predecessors (the sequential pass of ``ramp.rows.sequential_quantization`` is for reported rows).

``bank.safetensors`` holds ``{linear}/{width}/codes|scales|zeros`` (``ramp.quantizers.store``). ``bank.json`` holds
``format_version``, ``fold`` (the fold file's stem), ``fold_sha256``, ``quantizer``, ``group_size`` (requested),
``widths`` (``ramp.quantizers.widths``), ``tokens`` (calibration tokens, 0 for RTN), ``sha256`` of ``bank.safetensors``,
and ``linears``, in forward order (``BankedLinear``): every field of ``ramp.models.architecture.LinearSpec``, its packed
bytes by width, and the moments of its folded float weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, NonNegativeFloat, PositiveInt
from torch import Tensor

from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.core.tensors import open_tensors
from ramp.models.architecture import LinearSpec
from ramp.models.memory import free_bytes
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.store import Packed, PackedLinears
from ramp.quantizers.widths import Width, parse_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORMAT_VERSION = 2
WEIGHTS, INDEX = "bank.safetensors", "bank.json"
AGAIN = "build the bank again"

RESIDENT_BYTES = 2 << 30
"""De-quantized entries kept in memory by default: SmolLM2-135M at four widths takes 0.85 GB in bfloat16."""


class BankError(RampError):
    """A bank that cannot be built, or one that is missing, damaged or of another model."""


MenuWidth = Annotated[Width, BeforeValidator(parse_width)]


class BankedLinear(BaseModel):
    """A linear's entry in ``bank.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    layer: int
    role: str
    d_out: PositiveInt
    d_in: PositiveInt
    site: str
    index: int
    has_bias: bool
    group_size: PositiveInt  # its own where a width names none
    bytes: dict[MenuWidth, PositiveInt]  # width -> packed
    weight_absmean: Annotated[FiniteFloat, NonNegativeFloat]  # of the folded float weight
    weight_std: Annotated[FiniteFloat, NonNegativeFloat]

    @property
    def spec(self) -> LinearSpec:
        """The linear."""
        return LinearSpec(**{key: getattr(self, key) for key in LinearSpec.__dataclass_fields__})


class BankIndex(BaseModel):
    """The content of ``bank.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int
    fold: str  # the fold file's stem
    fold_sha256: str | None = None  # of its scales (``fold_digest``); banks of earlier versions lack it
    quantizer: str
    group_size: PositiveInt | Literal[-1]  # requested; -1: a scale per row
    widths: tuple[MenuWidth, ...]
    tokens: int  # of calibration; 0 for RTN
    sha256: str  # of ``bank.safetensors``
    linears: list[BankedLinear]  # in forward order


class Bank:
    """A bank on disk, memory-mapped; optionally its de-quantized weights in memory.

    ``linears``: list of LinearSpec, forward order. ``widths``: tuple of the menu's widths, in its order. ``fold``,
    ``fold_sha256``, ``quantizer``, ``group_size``, ``sha256``: as in ``bank.json``.
    """

    def __init__(self, bank_dir: str | Path) -> None:
        self.path = Path(bank_dir)
        index = read_json(self.path / INDEX, BankIndex, sealed=True, again=AGAIN)
        if index.format_version != FORMAT_VERSION:
            raise BankError(
                f"{self.path / INDEX} has format version {index.format_version}, this code reads "
                f"{FORMAT_VERSION}: {AGAIN}"
            )
        self.widths = index.widths
        self.linears: list[LinearSpec] = []
        self._sizes: list[list[int]] = []
        self.moments: dict[str, tuple[float, float]] = {}  # name -> (mean|W|, std W) of the folded float weight
        places: dict[tuple[str, Width], Packed] = {}
        for entry in index.linears:
            linear = entry.spec
            if set(entry.bytes) != set(self.widths):
                raise BankError(f"{self.path / INDEX} has other widths for {linear.name} than its menu: {AGAIN}")
            self.linears.append(linear)
            self._sizes.append([entry.bytes[width] for width in self.widths])
            self.moments[linear.name] = entry.weight_absmean, entry.weight_std
            places |= {(linear.name, w): Packed.of(linear, w, entry.group_size) for w in self.widths}
        self.fold, self.quantizer, self.group_size = index.fold, index.quantizer, index.group_size
        self.fold_sha256, self.sha256 = index.fold_sha256, index.sha256
        weights = open_tensors(self.path / WEIGHTS, "bank", sha256=index.sha256, again=AGAIN)
        self._packed = PackedLinears(weights, places)
        self._resident: dict[tuple[str, Width], Tensor] = {}
        self._room = 0  # bytes that may still become resident
        self._assembler: Assembler | None = None

    def bytes(self) -> np.ndarray:
        """Return the packed size of each entry: int64 [n linears, w widths]."""
        return np.array(self._sizes, dtype=np.int64)

    def quantized(self, linear: str, width: Width, device: torch.device | str = "cpu") -> QuantizedLinear:
        """Return one entry, unpacked on ``device``; ``BankError`` for a linear or width that the bank lacks."""
        return self.unpack(linear, width, self.packed(linear, width, device))

    def packed(self, linear: str, width: Width, device: torch.device | str = "cpu") -> list[Tensor]:
        """Return one entry's codes, scales and zeros, packed, on ``device``; raises as ``quantized``."""
        if (linear, width) not in self._packed:
            raise BankError(f"the bank {self.path} has no {linear} at {width} bits (widths: {list(self.widths)})")
        return self._packed.parts((linear, width), device)

    def unpack(self, linear: str, width: Width, packed: Sequence[Tensor]) -> QuantizedLinear:
        """Return an entry from what ``packed`` gave, on its device."""
        return self._packed.unpack((linear, width), packed)

    def dequantize(
        self, linear: str, width: Width, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return one entry's weights [d_out, d_in] as ``dtype``, read-only: they may be the resident copy."""
        if torch.device(device).type != "cpu":
            return self.quantized(linear, width, device).dequantize(dtype)
        held = self._resident.get((linear, width))
        if held is not None and held.dtype == dtype:
            return held
        weight = self.quantized(linear, width).dequantize(dtype)
        if held is None and weight.nbytes <= self._room:
            self._room -= weight.nbytes
            self._resident[linear, width] = weight
        return weight

    def keep_resident(self, limit_bytes: int) -> None:
        """Keep what is de-quantized from now on in host memory, up to ``limit_bytes`` in all."""
        self._room = max(0, limit_bytes - sum(t.nbytes for t in self._resident.values()))

    def assemble(self, model: PreTrainedModel, choice: np.ndarray | Sequence[int]) -> int:
        """Write an allocation, int [n] indices into ``widths`` in forward order, into ``model``; see ``Assembler``."""
        indices = np.asarray(choice, dtype=np.int64)
        if indices.shape != (len(self.linears),) or indices.min() < 0 or indices.max() >= len(self.widths):
            raise BankError(
                f"an allocation is {len(self.linears)} indices from 0 to {len(self.widths) - 1}, "
                f"this one has shape {list(indices.shape)}: {indices.tolist()[:8]}..."
            )
        if self._assembler is None or self._assembler.model is not model:
            self.prepare(model)
        assert self._assembler is not None
        return self._assembler(indices)

    def prepare(self, model: PreTrainedModel, room: int | None = None) -> None:
        """Get ready to assemble into ``model``; keep up to ``room`` bytes of packed entries on its GPU (None: half of
        what is free there)."""
        self.keep_resident(RESIDENT_BYTES)
        self._assembler = Assembler(self, model, room)


class Assembler:
    """A writer of allocations into one model, in place; nothing else may write into its linears between two calls.

    On a processor from the bank's de-quantized weights; on a GPU from packed ones, which stay on it within ``room``
    bytes (default: half of what is free there), so that a whole new allocation does not cross the bus.
    """

    def __init__(self, bank: Bank, model: PreTrainedModel, room: int | None = None) -> None:
        self.bank, self.model = bank, model
        self._weights: list[Any] = [model.get_submodule(x.name).weight for x in bank.linears]
        self._held = np.full(len(self._weights), -1)  # index of the width that each linear holds now; -1: unknown
        self._packed: dict[tuple[str, Width], list[Tensor]] = {}
        device = self._weights[0].device
        if room is None and device.type != "cpu":
            room = free_bytes(device) // 2
        self._room = room or 0

    def unpacked(self, name: str, width: Width, device: torch.device) -> QuantizedLinear:
        """Return an entry on ``device`` from its packed copy there; make the copy while there is room."""
        packed = self._packed.get((name, width))
        if packed is None:
            packed = self.bank.packed(name, width, device)
            size = sum(each.nbytes for each in packed)
            if size <= self._room:
                self._room -= size
                self._packed[name, width] = packed
        return self.bank.unpack(name, width, packed)

    @torch.no_grad()
    def __call__(self, choice: np.ndarray) -> int:
        """Write the widths of an allocation [n]; return how many changed: only these are written."""
        changed = np.flatnonzero(self._held != choice)
        for i in changed:
            weight, name, width = self._weights[i], self.bank.linears[i].name, self.bank.widths[choice[i]]
            self._held[i] = -1  # an interruption in the middle must not leave a wrong memory
            if weight.device.type == "cpu":
                new = self.bank.dequantize(name, width, weight.dtype)
            else:
                new = self.unpacked(name, width, weight.device).dequantize(weight.dtype)
            weight.copy_(new)
            self._held[i] = choice[i]
        return len(changed)
