"""The bank: every linear at every width of the menu, quantized once, packed on disk, memory-mapped.

A search assembles candidates from it without quantizing again. Its weights come from the folded float model and its
Hessians from float predecessors (the sequential pass of ``ramp.quantize`` is for reported rows).

``bank.safetensors`` holds ``{linear}/{width}/codes|scales|zeros``, packed as in ``ramp.quantizers.packing``.
``bank.json``: ``format_version``, ``fold`` (the fold file's stem), ``quantizer``, ``group_size`` (requested),
``widths`` (``ramp.widths``), ``tokens`` (calibration tokens, 0 for RTN) and ``linears``, in forward order: every field
of ``ramp.models.LinearSpec`` plus ``group_size`` (its own where a width names none) and ``bytes`` {width: packed}.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ramp import cli
from ramp.block_visit import BlockVisit
from ramp.calibration import add_text_arguments, calibration_windows, each_block, stream
from ramp.errors import RampError
from ramp.files import atomic_path, read_json, require_file, write_json
from ramp.folding import Fold, folder, load_fold
from ramp.models import LinearSpec, list_linears, pick_device, read_config
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.packing import from_tensors, packed_length, to_tensors
from ramp.quantizers.site import needs_hessian, quantize_site
from ramp.sizes import group_size_for, linear_bytes, own_group
from ramp.tensor_file import TensorFile
from ramp.widths import Width, bits_of, make_menu, parse_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("ramp.bank")

FORMAT_VERSION = 1
WEIGHTS, INDEX = "bank.safetensors", "bank.json"
PARTS = ("codes", "scales", "zeros")

RESIDENT_BYTES = 2 << 30
"""De-quantized entries kept at hand by default: SmolLM2-135M at four widths takes 0.85 GB in bfloat16."""


class BankError(RampError):
    """A bank that cannot be built, or one that is missing, damaged or of another model."""


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


def build_bank(
    model_dir: str | Path,
    windows: Tensor | None,
    out_dir: str | Path,
    *,
    fold: Fold,
    fold_name: str,
    quantizer: str | Callable[..., QuantizedLinear],
    widths: Sequence[Width],
    group_size: int,
    device: torch.device | str,
    params: Any = None,
    batch: int = 4,
) -> None:
    """Quantize every linear at every width and write the bank's folder, whole or not at all.

    windows: int64 [count, length] calibration tokens; None for ``rtn``, which needs none. Memory: one block, its
    Hessians and its quantized linears.
    """
    widths = make_menu(widths, group_size)
    config = read_config(model_dir)
    linears, edit = list_linears(config), folder(fold, config)
    name = quantizer if isinstance(quantizer, str) else getattr(quantizer, "__name__", "custom")
    calibrates = needs_hessian(quantizer, params)
    tokens = windows.numel() if calibrates and windows is not None else 0
    if calibrates and not tokens:
        raise BankError(f"quantizer '{name}' calibrates: give calibration windows")
    index = {
        "format_version": FORMAT_VERSION,
        "fold": fold_name,
        "quantizer": name,
        "group_size": group_size,
        "widths": widths,
        "tokens": tokens,
        "linears": [describe(x, widths, group_size) for x in linears],
    }
    menu = {linear.name: widths for linear in linears}
    with atomic_path(out_dir) as partial:
        partial.mkdir(parents=True)
        file = TensorFile(partial / WEIGHTS, bank_layout(linears, menu, group_size), {"widths": widths})

        def keep(weights: dict[str, Tensor], hessian: Tensor | None) -> None:
            own = group_size_for(next(iter(weights.values())).shape[1], group_size, next(iter(weights)))
            for (linear, width), q in quantize_site(weights, hessian, menu, own, quantizer, params).items():
                for part, tensor in to_tensors(q).items():
                    file.write(f"{linear}/{width}/{part}", tensor)

        def visit(block: BlockVisit) -> None:
            for kind, hessian in block.hessians().items():
                keep({block.specs[role].name: block.linears[role].weight for role in block.readers(kind)}, hessian)

        try:
            if calibrates and windows is not None:
                stream(model_dir, windows, visit, device=device, fold=edit, batch=batch)
            else:
                for _, modules in each_block(model_dir, device=device, fold=edit):
                    for linear, module in modules.items():
                        keep({linear.name: module.weight}, None)
        except BaseException:
            file.close(complete=False)
            raise
        file.close(complete=True)
        write_json(partial / INDEX, index)


def describe(linear: LinearSpec, widths: Sequence[Width], group_size: int) -> dict[str, Any]:
    """A linear's entry in ``bank.json``."""
    own = group_size_for(linear.d_in, group_size, linear.name)
    sizes = {str(width): linear_bytes(linear.d_out, linear.d_in, width, own) for width in widths}
    return {**asdict(linear), "group_size": own, "bytes": sizes}


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


def main(argv: Sequence[str] | None = None) -> int:
    """Build one model's bank."""
    parser = cli.parser("Quantize every linear at every width once, and keep the results packed.")
    add_text_arguments(parser)
    parser.add_argument("--fold", required=True, help="fold file of ramp.folding")
    parser.add_argument("--quantizer", choices=("rtn", "gptq"), default="gptq", help="how linears are quantized")
    parser.add_argument(
        "--widths", type=parse_width, nargs="+", default=[3, 4, 5, 6], help="the menu: bits, or bits and groups (3g32)"
    )
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    fold = load_fold(args.fold, read_config(args.model_dir))
    windows = None
    if needs_hessian(args.quantizer):
        windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length)
    build_bank(
        args.model_dir,
        windows,
        args.out,
        fold=fold,
        fold_name=Path(args.fold).stem,
        quantizer=args.quantizer,
        widths=args.widths,
        group_size=args.group_size,
        device=pick_device(args.device),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
