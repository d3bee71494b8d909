"""Scales fitted again after quantizing: least squares on the inputs' second moments, codes frozen.

The quantizers of ggml choose scales and codes of a block by a weighted error of that block alone. With the codes fixed,
a row's output error is (w - M s)^T H (w - M s), H the second moment of the inputs and M s the row as a linear function
of its scales. Its minimum over all scales of the row is (M^T H M) s = M^T H w: errors of one block make up for those of
another. The file's size and format stay as they are.
"""

from __future__ import annotations

import numpy as np

from ramp.ggml.scales import BlockScales

DAMPING = 0.02
"""Weight of staying at the old scales, as a share of the diagonal of M^T H M: calibration text is finite."""

ROWS = 64
"""Rows that are solved together: bounds the temporaries."""


def refit(packed: np.ndarray, type_name: str, weight: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a tensor's bytes with fitted scales; uint8 [rows, row bytes].

    weight: float32 [rows, columns], the float weights in the order of the bytes' rows. second: float32 [columns,
    columns], mean of x x^T over calibration tokens.
    """
    blocks = BlockScales(packed, type_name)
    rows, kinds, count, block = blocks.basis.shape
    fitted = np.empty_like(blocks.scales)
    moments = second.reshape(count, block, count * block)
    for start in range(0, rows, ROWS):
        part = slice(start, min(start + ROWS, rows))
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


def output_error(packed: np.ndarray, type_name: str, weight: np.ndarray, second: np.ndarray) -> float:
    """Return the mean squared output error of a tensor over its rows."""
    blocks = BlockScales(packed, type_name)
    error = (blocks.scales[..., None] * blocks.basis).sum(1).reshape(weight.shape) - weight
    return float(np.einsum("ri,ri->", error @ second, error) / len(weight))
