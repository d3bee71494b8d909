"""From a size in bytes to a type for every unit, and the plan of the file: exact before anything is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ramp.allocators import knapsack
from ramp.core.stale_temporaries import temporary_folder
from ramp.export.plan import PlannedTensor
from ramp.export.write import header, write_header
from ramp.gguf_format.names import gguf_tensors
from ramp.models.folder import ModelFolder
from ramp.quantizers.ggml import row_bytes
from ramp.sized_gguf.bank import GgmlBank
from ramp.sized_gguf.size import SizeRequestError
from ramp.sized_gguf.units import Unit, aligned

Types = Mapping[str, str]
"""Name of a unit's tensor -> its ggml type."""


@dataclass(frozen=True)
class Frame:
    """Parts of a model's file beside its units: their size does not depend on the units' types."""

    bytes: int  # header, metadata, tokenizer, index, norms and biases, alignment included
    weights: int  # of the whole model

    @classmethod
    def of(cls, model: ModelFolder, units: Sequence[Unit], name: str) -> Frame:
        """Measure it by writing the file's head without its data."""
        planned = plan_types(model, {unit.name: unit.types[-1] for unit in units})
        with temporary_folder("ramp-ggml") as folder:
            path = folder / "head.gguf"
            writer = header(model, planned, name)
            try:
                write_header(writer, path)
            finally:
                writer.close()
            head = aligned(path.stat().st_size)
        chosen = {unit.name for unit in units}
        rest = sum(aligned(tensor.bytes) for tensor in planned if tensor.name not in chosen)
        return cls(head + rest, sum(math.prod(tensor.shape) for tensor in planned))


def plan_types(model: ModelFolder, types: Types) -> list[PlannedTensor]:
    """Return every tensor of the file with its type and bytes; what ``types`` does not name stays float32."""
    planned = []
    for tensor in gguf_tensors(model.config):
        kind = types.get(tensor.name, "F32")
        size = math.prod(tensor.shape[:-1]) * row_bytes(kind, tensor.shape[-1])
        planned.append(PlannedTensor(tensor.name, tensor.source, tensor.kind, kind, tensor.shape, size))
    return planned


def file_bytes(frame: Frame, units: Sequence[Unit], types: Types) -> int:
    """Return the size of the file, to the byte."""
    return frame.bytes + sum(unit.room(types[unit.name]) for unit in units)


def predicted_kl(bank: GgmlBank, types: Types) -> float:
    """Return the sum of the bank's costs: nats per token."""
    return sum(bank.costs[unit.name][types[unit.name]] for unit in bank.units)


def cheapest(units: Sequence[Unit]) -> dict[str, str]:
    """Return the smallest type of every unit."""
    return {unit.name: min(unit.types, key=unit.bytes) for unit in units}


def check_size(size: int, frame: Frame, units: Sequence[Unit]) -> None:
    """Raise ``SizeRequestError`` for a size below the smallest file, or at or above the float16 file."""
    least = file_bytes(frame, units, cheapest(units))
    if size < least:
        kinds = Counter(cheapest(units).values()).most_common()
        named = ", ".join(f"{kind} x {count}" for kind, count in kinds)
        raise SizeRequestError(
            f"no file of this model has {size} bytes: the smallest that these types give has {least} ({named}); "
            "ask for at least that"
        )
    half = frame.bytes + sum(aligned(2 * unit.params) for unit in units)
    if size >= half:
        raise SizeRequestError(
            f"{size} bytes hold the model in float16 ({half} bytes), nothing has to be quantized: ask for less"
        )


def allocate(bank: GgmlBank, frame: Frame, size: int) -> dict[str, str]:
    """Return the types of least summed cost in a file of at most ``size`` bytes: an exact knapsack."""
    units, most = bank.units, max(len(bank.kept[unit.name]) for unit in bank.units)
    menus = [(bank.kept[x.name] + bank.kept[x.name][-1:] * most)[:most] for x in units]  # of one length
    costs = np.array([[bank.costs[x.name][t] for t in menu] for x, menu in zip(units, menus, strict=True)])
    sizes = np.array([[x.room(t) for t in menu] for x, menu in zip(units, menus, strict=True)])
    choice = knapsack.solve(costs, sizes, size - frame.bytes)
    return {unit.name: menus[i][choice[i]] for i, unit in enumerate(units)}
