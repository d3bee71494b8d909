"""The bank: every linear at every width of the menu, quantized once, packed on disk, memory-mapped.

A search assembles candidates from it without quantizing again. Its weights come from the folded float model and its
Hessians from float predecessors (the sequential pass of ``ramp.rows.sequential`` is for reported rows).

``bank.safetensors`` holds ``{linear}/{width}/codes|scales|zeros``, packed as in ``ramp.quantizers.packing``.
``bank.json``: ``format_version``, ``fold`` (the fold file's stem), ``quantizer``, ``group_size`` (requested),
``widths`` (``ramp.quantizers.widths``), ``tokens`` (calibration tokens, 0 for RTN) and ``linears``, in forward
order: every field of ``ramp.models.architecture.LinearSpec`` plus ``group_size`` (its own where a width names none)
and ``bytes`` {width: packed}.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ramp.core.errors import RampError
from ramp.core.files import read_json, require_file
from ramp.models.architecture import LinearSpec
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.packing import from_tensors
from ramp.quantizers.sizes import own_group
from ramp.quantizers.widths import Width, bits_of, parse_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger("ramp.bank.bank")


FORMAT_VERSION = 1


WEIGHTS, INDEX = "bank.safetensors", "bank.json"


PARTS = ("codes", "scales", "zeros")


RESIDENT_BYTES = 2 << 30
"""De-quantized entries kept at hand by default: SmolLM2-135M at four widths takes 0.85 GB in bfloat16."""


class BankError(RampError):
    """A bank that cannot be built, or one that is missing, damaged or of another model."""


# --- reading ---------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One linear of a bank."""

    linear: LinearSpec
    group_size: int  # at widths that name none
    sizes: dict[Width, int]  # width -> packed bytes

    @staticmethod
    def parse(values: Mapping[str, Any]) -> Entry:
        """From ``bank.json``; KeyError for a field that is missing."""
        linear = LinearSpec(**{key: values[key] for key in LinearSpec.__dataclass_fields__})
        return Entry(linear, int(values["group_size"]), {parse_width(w): int(n) for w, n in values["bytes"].items()})


class Bank:
    """A bank on disk, memory-mapped; optionally its de-quantized weights in memory.

    ``linears``: list of LinearSpec, forward order. ``widths``: tuple of bits, ascending. ``fold``, ``quantizer``,
    ``group_size``: what it was built with.
    """

    def __init__(self, bank_dir: str | Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(bank_dir)
        index = read_json(self.path / INDEX)
        try:
            if index["format_version"] != FORMAT_VERSION:
                raise BankError(
                    f"{self.path / INDEX} has format version {index['format_version']}, this code reads "
                    f"{FORMAT_VERSION}: build the bank again"
                )
            self._entries = {entry["name"]: Entry.parse(entry) for entry in index["linears"]}
            self.linears = [entry.linear for entry in self._entries.values()]
            self.widths: tuple[Width, ...] = tuple(index["widths"])
            self.fold, self.quantizer, self.group_size = index["fold"], index["quantizer"], int(index["group_size"])
        except (KeyError, TypeError) as error:
            raise BankError(f"{self.path / INDEX} lacks {error}: build the bank again") from None
        weights = require_file(self.path / WEIGHTS, "bank")
        try:
            self._file = safe_open(str(weights), framework="pt")
        except SafetensorError as error:
            raise BankError(f"{weights} is damaged ({error}): build the bank again") from None
        self._resident: dict[tuple[str, Width], Tensor] = {}
        self._room = 0  # bytes that may still become resident
        self._assembler: Assembler | None = None

    def bytes(self) -> np.ndarray:
        """int64 [n linears, w widths]: the packed size of each entry."""
        return np.array([[x.sizes[width] for width in self.widths] for x in self._entries.values()], dtype=np.int64)

    def quantized(self, linear: str, width: Width, device: torch.device | str = "cpu") -> QuantizedLinear:
        """One entry, unpacked on ``device``; ``BankError`` for a linear or width that the bank lacks."""
        return self.unpack(linear, width, self.packed(linear, width, device))

    def packed(self, linear: str, width: Width, device: torch.device | str = "cpu") -> list[Tensor]:
        """``PARTS`` of one entry on ``device``; ``BankError`` for a linear or width that the bank lacks."""
        if linear not in self._entries or width not in self.widths:
            raise BankError(f"the bank {self.path} has no {linear} at {width} bits (widths: {list(self.widths)})")
        return [self._file.get_tensor(f"{linear}/{width}/{part}").to(device) for part in PARTS]

    def unpack(self, linear: str, width: Width, packed: Sequence[Tensor]) -> QuantizedLinear:
        """An entry from its ``PARTS``, on their device."""
        codes, scales, zeros = packed
        entry = self._entries[linear]
        d_in = entry.linear.d_in
        group_size = own_group(d_in, width, entry.group_size)
        return from_tensors(codes, scales, zeros, bits=bits_of(width), group_size=group_size, d_in=d_in)

    def dequantize(self, linear: str, width: Width, dtype: torch.dtype = torch.float32) -> Tensor:
        """One entry's weights [d_out, d_in] as ``dtype``. Do not write into the result: it may be the resident copy."""
        held = self._resident.get((linear, width))
        if held is not None and held.dtype == dtype:
            return held
        weight = self.quantized(linear, width).dequantize(dtype)
        if held is None and weight.nbytes <= self._room:
            self._room -= weight.nbytes
            self._resident[linear, width] = weight
        return weight

    def keep_resident(self, limit_bytes: int) -> None:
        """From now on keep what is de-quantized in host memory, up to ``limit_bytes`` in all."""
        self._room = max(0, limit_bytes - sum(t.nbytes for t in self._resident.values()))

    def preload(self, dtype: torch.dtype, limit_bytes: int) -> bool:
        """De-quantize and keep every entry if all fit in ``limit_bytes``; whether they did."""
        size = len(self.widths) * sum(x.params for x in self.linears) * torch.empty(0, dtype=dtype).element_size()
        if size > limit_bytes:
            log.info("bank of %.2f GB stays on disk: more than %.2f GB of memory", size / 1e9, limit_bytes / 1e9)
            return False
        self._resident.clear()
        self.keep_resident(limit_bytes)
        for x in self.linears:
            for width in self.widths:
                self.dequantize(x.name, width, dtype)
        return True

    def assembler(self, model: PreTrainedModel, limit_bytes: int = RESIDENT_BYTES) -> Assembler:
        """What writes allocations into ``model``, keeping up to ``limit_bytes`` of de-quantized weights at hand."""
        self.keep_resident(limit_bytes)
        return Assembler(self, model)

    def assemble(self, model: PreTrainedModel, choice: np.ndarray | Sequence[int]) -> int:
        """Write an allocation, int [n] indices into ``widths`` in forward order, into ``model``; see ``Assembler``."""
        indices = np.asarray(choice, dtype=np.int64)
        if indices.shape != (len(self.linears),) or indices.min() < 0 or indices.max() >= len(self.widths):
            raise BankError(
                f"an allocation is {len(self.linears)} indices from 0 to {len(self.widths) - 1}, "
                f"this one has shape {list(indices.shape)}: {indices.tolist()[:8]}..."
            )
        if self._assembler is None or self._assembler.model is not model:
            self._assembler = self.assembler(model)
        return self._assembler({x.name: self.widths[i] for x, i in zip(self.linears, indices, strict=True)})


class Assembler:
    """Writes allocations into one model, in place; between two calls nobody else may write into its linears.

    On a processor from the bank's de-quantized weights; on a GPU from packed ones, which stay on it within ``room``
    bytes (default: half of what is free there), so that a whole new allocation does not cross the bus.
    """

    def __init__(self, bank: Bank, model: PreTrainedModel, room: int | None = None) -> None:
        self.bank, self.model = bank, model
        self._weights: dict[str, Any] = {x.name: model.get_submodule(x.name).weight for x in bank.linears}
        self._held: dict[str, Width] = {}  # what each linear holds now
        self._packed: dict[tuple[str, Width], list[Tensor]] = {}
        device = next(iter(self._weights.values())).device
        if room is None and device.type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] // 2
        self._room = room or 0

    def unpacked(self, name: str, width: Width, device: torch.device) -> QuantizedLinear:
        """An entry on ``device``, from the packed copy there if there is one; makes one while there is room."""
        packed = self._packed.get((name, width))
        if packed is None:
            packed = self.bank.packed(name, width, device)
            size = sum(each.nbytes for each in packed)
            if size <= self._room:
                self._room -= size
                self._packed[name, width] = packed
        return self.bank.unpack(name, width, packed)

    @torch.no_grad()
    def __call__(self, widths: Mapping[str, Width]) -> int:
        """widths: of every linear by name. Only linears whose width changes are written; returns how many."""
        if widths.keys() != self._weights.keys():
            odd = min(widths.keys() ^ self._weights.keys())
            raise BankError(f"{odd}: an allocation names every linear of the bank {self.bank.path} and no other")
        changed = [name for name in self._weights if self._held.get(name) != widths[name]]
        for name in changed:
            weight = self._weights[name]
            self._held.pop(name, None)  # an interruption in the middle must not leave a wrong memory
            if weight.device.type == "cpu":
                new = self.bank.dequantize(name, widths[name], weight.dtype)
            else:
                new = self.unpacked(name, widths[name], weight.device).dequantize(weight.dtype)
            weight.copy_(new)
            self._held[name] = widths[name]
        return len(changed)
