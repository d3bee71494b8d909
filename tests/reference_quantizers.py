"""The specification: GPTQ, AWQ's two searches and the grid, plain and slow, in float64, one number at a time.

Nothing here is shared with the fast versions but the types that results come in. Each function says which fast one it
specifies; tests hold them equal on small layers (``tests/unit/test_reference.py``). Cost is cubic and worse: for
``Linear(8, 6)``, not for models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.gptq import DAMPING, Prepared, prepare, quantize_gptq_site

Grid = tuple[float, int]
"""(scale, zero-point) of one group."""


def plain_grid(low: float, high: float, bits: int, sym: bool) -> Grid:
    """``ramp.quantizers.affine.grid_for_range`` of one group."""
    low, high = min(low, 0.0), max(high, 0.0)
    if sym:
        low, high = -max(-low, high), max(-low, high)
    step = (high - low) / (2**bits - 1) if high > low else 1.0
    step = min(max(step, 2.0**-24), 65504.0)
    scale = float(np.float16(np.float32(step)))  # by way of float32, as torch converts float64
    if sym:
        return scale, 2 ** (bits - 1)
    return scale, min(max(int(np.round(-low / scale)), 0), 2**bits - 1)


def plain_code(w: float, grid: Grid, bits: int) -> int:
    """The code nearest to one weight; ties to the even step, as in IEEE 754."""
    scale, zero = grid
    return min(max(int(np.round(w / scale)) + zero, 0), 2**bits - 1)


def plain_value(code: int, grid: Grid) -> float:
    """Return what a code stands for."""
    scale, zero = grid
    return (code - zero) * scale


def plain_search(values: np.ndarray, bits: int, sym: bool, error: Callable[[np.ndarray], float] | None) -> Grid:
    """The grid of one group: its full range, or the range shrunk by 1.00, 0.95, ... 0.50 that has the least ``error``
    of the rounding difference (the first of equals)."""
    low, high = float(values.min()), float(values.max())
    if error is None:
        return plain_grid(low, high, bits, sym)
    best, least = (1.0, 0), np.inf
    for step in range(11):
        shrink = 1.0 - 0.05 * step
        grid = plain_grid(low * shrink, high * shrink, bits, sym)
        difference = np.array([plain_value(plain_code(w, grid, bits), grid) - w for w in values])
        if error(difference) < least:
            best, least = grid, error(difference)
    return best


def pack_up(codes: np.ndarray, grids: list[list[Grid]], bits: int, group_size: int) -> QuantizedLinear:
    """Codes [d_out, d_in] and grids[row][group] in the type that the fast versions return."""
    return QuantizedLinear(
        codes=torch.tensor(codes, dtype=torch.uint8),
        scales=torch.tensor([[scale for scale, _ in row] for row in grids], dtype=torch.float16),
        zeros=torch.tensor([[zero for _, zero in row] for row in grids], dtype=torch.uint8),
        bits=bits,
        group_size=group_size,
    )


def quantize_gptq_reference(
    weight: Tensor,
    hessian: Tensor,
    bits: int,
    group_size: int,
    *,
    act_order: bool = True,
    damping: float = 0.01,
    clip: str = "none",
    sym: bool = False,
) -> QuantizedLinear:
    """Specifies ``quantize_gptq``: the optimal-brain loop of the paper, before its speed-ups.

    One row at a time, one column at a time: round, move the columns that are left by equation 2, and take the column
    out of the inverse Hessian by equation 3 (arXiv:2210.17323). weight [d_out, d_in], hessian [d_in, d_in].
    """
    w, h = weight.double().numpy().copy(), hessian.double().numpy().copy()
    d_out, d_in = w.shape
    group_size = d_in if group_size == -1 else group_size
    dead = [j for j in range(d_in) if h[j, j] == 0]
    mean = float(np.mean([h[j, j] for j in range(d_in) if j not in dead]))
    for j in range(d_in):
        if j in dead:
            h[j, j] = mean
            w[:, j] = 0
        h[j, j] += damping * mean
    order = sorted(range(d_in), key=lambda j: -h[j, j]) if act_order else list(range(d_in))

    def grid_of(values: np.ndarray, start: int) -> Grid:
        share = np.diag(h)[start : start + group_size]
        error = (lambda difference: float(np.sum(share * difference**2))) if clip == "mse" else None
        return plain_search(values, bits, sym, error)

    codes = np.zeros((d_out, d_in), dtype=np.int64)
    starts = range(0, d_in, group_size)
    grids = [[grid_of(w[r, s : s + group_size], s) for s in starts] for r in range(d_out)]
    for r in range(d_out):
        row, inverse, left = w[r].copy(), np.linalg.inv(h), list(range(d_in))
        for j in order:
            group = j // group_size
            if not act_order and j % group_size == 0:
                grids[r][group] = grid_of(row[j : j + group_size], j)
            codes[r, j] = plain_code(row[j], grids[r][group], bits)
            error = (row[j] - plain_value(codes[r, j], grids[r][group])) / inverse[j, j]
            left.remove(j)
            for k in left:
                row[k] -= error * inverse[j, k]
            inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return pack_up(codes, grids, bits, group_size)


def quantize_clipped_reference(
    weight: Tensor, x: Tensor, bits: int, group_size: int, *, sym: bool = False
) -> QuantizedLinear:
    """Specifies ``ramp.quantizers.clip.quantize_clipped``: AWQ's clip search by running the tokens through each group.

    weight [d_out, d_in]; x [tokens, d_in], the calibration inputs themselves.
    """
    w, inputs = weight.double().numpy(), x.double().numpy()
    d_out, d_in = w.shape
    group_size = d_in if group_size == -1 else group_size
    codes, grids = np.zeros((d_out, d_in), dtype=np.int64), []
    for r in range(d_out):
        row: list[Grid] = []
        for start in range(0, d_in, group_size):
            seen = inputs[:, start : start + group_size]

            def error(difference: np.ndarray, seen: np.ndarray = seen) -> float:
                return float(np.mean((seen @ difference) ** 2))

            row.append(plain_search(w[r, start : start + group_size], bits, sym, error))
            for j in range(start, start + group_size):
                codes[r, j] = plain_code(w[r, j], row[-1], bits)
        grids.append(row)
    return pack_up(codes, grids, bits, group_size)


def search_scale_reference(
    weights: Sequence[Tensor],
    x: Tensor,
    bits: Sequence[int],
    group_size: int,
    *,
    grid: int = 20,
    tie: Callable[[Tensor], Tensor] | None = None,
    sym: bool = False,
    duo: bool = False,
) -> tuple[np.ndarray, float, float]:
    """Specifies ``ramp.quantizers.awq.ScaleSearch``: every candidate's layers are run on all the tokens.

    weights [d_out_i, d_in]; x [tokens, d_in]. Candidate r = 0, 1/grid, ...: s = mean|X|^r, divided by the root of its
    largest times its smallest (arXiv:2306.00978, equations 4 and 5); loss: mean over tokens of
    ||(X / s) Q(W diag(s))^T - X W^T||^2, summed over weights and widths. ``duo`` adds, for all r, mean|X|^r /
    (mean|W|^(1-r) + 1e-4), normalised alike. Returns (s [d_in], loss at r = 0, least loss).
    """
    inputs = x.double().numpy()
    d_in = inputs.shape[1]
    size = d_in if group_size == -1 else group_size
    absmean = np.abs(inputs).mean(0)

    def loss(s: np.ndarray) -> float:
        total = 0.0
        for weight in weights:
            w = weight.double().numpy()
            for width in bits:
                rounded = np.zeros_like(w)
                for r in range(len(w)):
                    for start in range(0, d_in, size):
                        here = range(start, start + size)
                        scaled = [w[r, j] * s[j] for j in here]
                        cell = plain_grid(min(scaled), max(scaled), width, sym)
                        rounded[r, start : start + size] = [
                            plain_value(plain_code(v, cell, width), cell) for v in scaled
                        ]
                total += float(np.mean(np.sum(((inputs / s) @ rounded.T - inputs @ w.T) ** 2, axis=1)))
        return total

    best, before = np.ones(d_in), loss(np.ones(d_in))
    least = before
    numerators = [absmean ** (step / grid) for step in range(1, grid)]
    if duo:
        rows = np.concatenate([np.abs(weight.double().numpy()) for weight in weights])
        numerators += [absmean ** (k / grid) / (rows.mean(0) ** (1 - k / grid) + 1e-4) for k in range(grid)]
    for s in numerators:
        s = np.maximum(s, 1e-4)
        s = s / np.sqrt(s.max() * s.min())
        if tie is not None:
            s = tie(torch.from_numpy(s)).numpy()
        if loss(s) < least:
            best, least = s, loss(s)
    return best, before, least


def quantize_gptq(
    weight: Tensor,
    hessian: Tensor | Prepared,
    bits: int,
    group_size: int,
    *,
    act_order: bool = True,
    damping: float = DAMPING,
    name: str = "",
    **options: Any,
) -> QuantizedLinear:
    """Quantize one linear at one width by the fast form, ``ramp.quantizers.gptq.quantize_gptq_site``."""
    if not isinstance(hessian, Prepared):
        hessian = prepare(hessian, act_order=act_order, damping=damping, name=name)
    return quantize_gptq_site({name: weight}, hessian, [bits], group_size, **options)[name, bits]
