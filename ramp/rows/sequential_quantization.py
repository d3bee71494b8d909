"""Sequential quantization: every reported row, uniform or mixed, goes through ``quantize_model``.

The folded float model is streamed block by block; inside a block the sites are taken in forward order, attn_in -> o_in
-> mlp_in -> down_in, each with the Hessian of its current inputs: all earlier linears are quantized already (GPTQ's
``true_sequential``, IST-DASLab/gptq).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ramp.calibration.block import BlockVisit
from ramp.calibration.folding import Fold
from ramp.calibration.stream import each_block, stream
from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec
from ramp.models.folder import ModelFolder
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.site import needs_hessian, quantize_site
from ramp.quantizers.widths import Width, check_bits


class QuantizationError(RampError):
    """An allocation, fold or method that does not fit the model, the budget or the command line."""


def quantize_model(
    model_dir: str | Path,
    windows: Tensor | None,
    widths: Mapping[str, Width],
    *,
    fold: Fold,
    quantizer: str | Callable[..., QuantizedLinear],
    group_size: int,
    keep: Callable[[str, Width, QuantizedLinear], object],
    device: torch.device | str,
    params: BaseModel | None = None,
    batch: int = 4,
) -> dict[str, Tensor]:
    """Quantize every linear to its width, call ``keep(name, width, quantized)``, and return all other tensors.

    windows: int64 [count, length] calibration tokens, None where the quantizer needs none (``needs_hessian``).
    widths: linear -> width, in groups of ``group_size`` where it names none. The other tensors are folded, on the host,
    by their checkpoint names: norms, biases, embedding and, unless tied, head. Works in float32. Raises
    ``CalibrationError``, ``QuantizeError``, ``ModelError``.
    """
    model = ModelFolder(model_dir)
    arch = model.architecture
    missing = [linear.name for linear in model.linears if linear.name not in widths]
    if missing:
        raise QuantizationError(f"the allocation does not name {missing[0]}: it belongs to another model")
    others: dict[str, Tensor] = {}
    calibrates = needs_hessian(quantizer, params)
    if calibrates and windows is None:
        raise QuantizationError("this quantizer calibrates: give calibration text (--text)")

    def quantize(weights: dict[str, Tensor], hessian: Tensor | None) -> dict[str, QuantizedLinear]:
        menu = {name: [widths[name]] for name in weights}
        found = quantize_site(weights, hessian, menu, group_size, quantizer, params)
        for (name, width), q in found.items():
            keep(name, width, q)
        return {name: q for (name, _), q in found.items()}

    def collect_others(block: nn.Module, layer: int) -> None:
        names = {f"{path}.weight" for _, path in arch.linears}
        for name, tensor in block.state_dict().items():
            if name not in names:
                others[f"{arch.blocks}.{layer}.{name}"] = tensor.to("cpu", copy=True)

    def visit(block: BlockVisit) -> None:
        collect_others(block.block, block.layer)

        def change(kind: str, hessian: Tensor) -> None:
            roles = {block.specs[role].name: role for role in block.readers(kind)}
            weights = {name: block.linears[role].weight for name, role in roles.items()}
            for name, q in quantize(weights, hessian).items():
                block.replace(roles[name], q.dequantize(torch.float32))

        block.each_site(change)

    if calibrates and windows is not None:
        stream(model_dir, windows, visit, device=device, fold=fold, batch=batch)
    else:  # plain rounding needs no inputs: the same result without a pass over text
        for block, modules in each_block(model_dir, device=device, fold=fold):
            collect_others(block, next(iter(modules)).layer)
            for linear, module in modules.items():
                quantize({linear.name: module.weight}, None)
    return others | {name: model.reader.get(name) for name in model.outer}


def uniform(linears: Sequence[LinearSpec], bits: int) -> dict[str, int]:
    """Return every linear's width in a uniform row."""
    return {linear.name: check_bits(bits) for linear in linears}
