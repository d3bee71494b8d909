"""Scales fitted again after quantizing: least squares on the inputs' second moments, codes frozen.

The quantizers of ggml choose scales and codes of a block by a weighted error of that block alone. With the codes fixed,
a row's output error is (w - M s)^T H (w - M s), H the second moment of the inputs and M s the row as a linear function
of its scales. Its minimum over all scales of the row is (M^T H M) s = M^T H w: errors of one block make up for those of
another. The file's size and format stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ramp.calibration.block import BlockVisit
from ramp.calibration.stream import block_runner, stream
from ramp.gguf_format.names import to_gguf_rows
from ramp.models.architecture import SITES
from ramp.models.folder import ModelFolder
from ramp.sized_gguf.scales import PLACES, BlockScales
from ramp.sized_gguf.units import Unit

DAMPING = 0.02
"""Weight of staying at the old scales, as a share of the diagonal of M^T H M: calibration text is finite."""

ROWS = 64
"""Most rows that are solved together."""

LARGEST_PRODUCT = 1 << 28
"""Bytes of the products M^T H of the rows that are solved together: fewer rows where rows are long."""


def refit(packed: np.ndarray, type_name: str, weight: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a tensor's bytes with fitted scales; uint8 [rows, row bytes].

    weight: float32 [rows, columns], the float weights in the order of the bytes' rows. second: float32 [columns,
    columns], mean of x x^T over calibration tokens.
    """
    blocks = BlockScales(packed, type_name)
    rows, kinds, count, block = blocks.basis.shape
    fitted = np.empty_like(blocks.scales)
    moments = second.reshape(count, block, count * block)
    at_once = min(ROWS, max(1, LARGEST_PRODUCT // (4 * kinds * count * count * block)))
    for start in range(0, rows, at_once):
        part = slice(start, min(start + at_once, rows))
        basis, old = blocks.basis[part].astype(np.float32), blocks.scales[part].reshape(-1, kinds * count)
        n = len(basis)
        # M^T H of every scale of a row: [n, kinds, count, columns]
        left = np.stack([np.matmul(basis[:, :, b], moments[b]) for b in range(count)], axis=2)
        gram = np.einsum("nkbcj,nlcj->nkblc", left.reshape(n, kinds, count, count, block), basis, optimize=True)
        gram = gram.reshape(n, kinds * count, kinds * count).astype(np.float64)
        target = np.einsum("nkbj,nj->nkb", left, weight[part], optimize=True).reshape(n, -1).astype(np.float64)
        damp = DAMPING * np.einsum("nii->ni", gram) + 1e-12
        gram[:, np.arange(kinds * count), np.arange(kinds * count)] += damp
        target += damp * old
        fitted[part] = np.linalg.solve(gram, target[..., None])[..., 0].reshape(n, kinds, count)
    return blocks.packed(fitted)


def refit_model(
    model: ModelFolder,
    units: Sequence[Unit],
    types: Mapping[str, str],
    packed: Mapping[str, np.ndarray],
    windows: Tensor,
) -> dict[str, np.ndarray]:
    """Return the bytes of every tensor that reads activations, with fitted scales; one block is in memory at a time.

    packed: bytes of every unit's tensor. windows: int64 [count, length] of calibration text. An embedding that is
    looked up only, and a type without scales (F16), are left out.
    """
    chosen = {unit.tensor.source: unit for unit in units if types[unit.name] in PLACES}
    fitted: dict[str, np.ndarray] = {}

    def fit(source: str, weight: Tensor, second: Tensor) -> None:
        if (unit := chosen.get(source)) is not None:
            values = to_gguf_rows(weight.float().numpy(), unit.tensor.heads)
            fitted[unit.name] = refit(packed[unit.name], types[unit.name], values, second.numpy())

    def visit(block: BlockVisit) -> None:
        moments = block.hessians()
        for role, module in block.linears.items():
            fit(f"{block.specs[role].name}.weight", module.weight, moments[SITES[role]])

    def head(hidden: Tensor) -> None:
        norm = block_runner(model, 1, device="cpu").final_norm()
        second = torch.zeros(hidden.shape[-1], hidden.shape[-1])
        with torch.no_grad():
            for window in hidden:
                states = norm(window)
                second += states.T @ states
        second /= hidden.shape[0] * hidden.shape[1]
        fit(model.head_tensor, model.reader.get(model.head_tensor), second)

    stream(model.path, windows, visit, device="cpu", result=head, label="scales fitted again")
    return fitted
