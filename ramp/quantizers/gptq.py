"""GPTQ (Frantar et al., ICLR 2023, arXiv:2210.17323): quantize a column, let the next ones make up for its error.

The layer's output error over the calibration inputs X is tr(dW H dW^T) with H = X^T X / n. Quantizing column j and
moving the columns that are still free by the optimal-brain step

    err_j = (w_j - quant(w_j)) / [H_F^-1]_jj,    W_F <- W_F - err_j [H_F^-1]_j,F        (eq. 2 and 3 of the paper)

keeps that error small; F are the columns from j on. ``quantize_gptq_reference`` is that, one column at a time in
float64: it is the specification. ``quantize_gptq`` gives the same codes with the paper's three steps to speed: one
order of columns for all rows (step 1), updates of the columns outside a block delayed to the block's end (step 2),
and all rows of all the inverses H_F^-1 read from one Cholesky factor (step 3).

Columns go by falling diagonal of H (``act_order``) or as they stand. With ``act_order`` every group's grid is fixed
beforehand from the original weights (*static groups*), so that a group is a run of neighbouring columns in memory
whatever the order; without it a group's grid is computed from the updated weights when its first column is reached.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ramp.quantizers.affine import (
    QuantizedLinear,
    QuantizeError,
    check_weight,
    group_grid,
    label,
    nearest_codes,
)

logger = logging.getLogger(__name__)

DAMPING = 0.01
"""Share of the mean diagonal added to the diagonal: the paper's 1 % (section 3.3, step 3)."""

BLOCK_SIZE = 128
"""Columns between two delayed updates: the paper's B = 128."""


@dataclass(frozen=True)
class Prepared:
    """What GPTQ needs of one Hessian; shared by every linear that reads the same input, and by every width."""

    upper: Tensor  # float [d_in, d_in] upper triangular U, H^-1 = U^T U, rows and columns in the order of ``order``
    order: Tensor  # int64 [d_in]: order[i] is the column quantized i-th
    diagonal: Tensor  # float [d_in]: damped diagonal of H in the original order
    dead: Tensor  # bool [d_in]: input channels that were zero on all calibration tokens
    act_order: bool


def output_error(difference: Tensor, hessian: Tensor) -> float:
    """tr(D H D^T): squared output error per token of a weight difference D [d_out, d_in], H [d_in, d_in]."""
    return float(torch.einsum("ij,ij->", difference @ hessian.to(difference.dtype), difference))


def damp(hessian: Tensor, damping: float, name: str = "") -> tuple[Tensor, Tensor]:
    """A damped copy of H, and which channels are dead (zero diagonal).

    A dead channel's weights cannot matter to the calibration data: like the reference implementation
    (IST-DASLab/gptq, ``fasterquant``) its diagonal is made positive and its weights are set to zero by the caller.
    The value is the mean of the living diagonals, where the reference has 1, so that H's scale does not matter.
    """
    if hessian.dim() != 2 or hessian.shape[0] != hessian.shape[1]:
        raise QuantizeError(f"{label(name)}: a Hessian is square, this one is {list(hessian.shape)}")
    if not bool(torch.isfinite(hessian).all()):
        raise QuantizeError(f"{label(name)}: the Hessian has NaN or infinite entries: calibration overflowed before it")
    if damping < 0:
        raise QuantizeError(f"{label(name)}: damping {damping} is negative")
    hessian = hessian.detach().clone()
    if hessian.dtype not in (torch.float32, torch.float64):
        hessian = hessian.to(torch.float32)
    diagonal = hessian.diagonal()  # a view
    dead = diagonal == 0
    count = int(dead.sum())
    if count == hessian.shape[0]:
        raise QuantizeError(f"{label(name)}: the Hessian is zero: no calibration token reached this input")
    mean = diagonal[~dead].mean()
    if count:
        logger.warning("%s: %d of %d input channels are dead, their weights become 0", label(name), count, len(dead))
        diagonal[dead] = mean
    diagonal += damping * mean
    return hessian, dead


def column_order(diagonal: Tensor, act_order: bool) -> Tensor:
    """The order of quantization: by falling diagonal (stable, so ties keep their order) or as it stands."""
    if act_order:
        return torch.argsort(diagonal, descending=True, stable=True)
    return torch.arange(diagonal.shape[0], device=diagonal.device)


def inverse_factor(hessian: Tensor) -> Tensor | None:
    """U upper triangular with H^-1 = U^T U, or None where H is not positive definite in its precision.

    With J the reversal of rows and columns and J H J = L L^T, R = J L J is upper triangular, H = R R^T, and
    U = R^-1: one factorization and one triangular inverse, instead of inverting H and factoring the inverse.
    """
    lower, info = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    if int(info):
        return None
    eye = torch.eye(hessian.shape[0], dtype=hessian.dtype, device=hessian.device)
    factor = torch.linalg.solve_triangular(lower, eye, upper=False).flip(0, 1).contiguous()
    return factor if bool(torch.isfinite(factor).all()) else None


def prepare(hessian: Tensor, *, act_order: bool = True, damping: float = DAMPING, name: str = "") -> Prepared:
    """Order the columns and factor the damped inverse of ``hessian`` [d_in, d_in], float32 or float64.

    Factored in the Hessian's precision, then in float64 if that fails. Raises ``QuantizeError`` naming ``name``
    for a Hessian with NaN entries, of zeros, or not positive definite even so.
    """
    damped, dead = damp(hessian, damping, name)
    diagonal = damped.diagonal().clone()
    order = column_order(diagonal, act_order)
    ordered = damped[order][:, order]
    upper = inverse_factor(ordered)
    if upper is None:
        logger.info("%s: Hessian not positive definite in %s, factored in float64", label(name), ordered.dtype)
        upper = inverse_factor(ordered.to(torch.float64))
        if upper is None:
            raise QuantizeError(
                f"{label(name)}: the Hessian is not positive definite at damping {damping}: "
                "raise the damping or calibrate on more text"
            )
        upper = upper.to(hessian.dtype if hessian.dtype == torch.float64 else torch.float32)
    return Prepared(upper=upper, order=order, diagonal=diagonal, dead=dead, act_order=act_order)


def quantize_gptq(
    weight: Tensor,
    hessian: Tensor | Prepared,
    bits: int,
    group_size: int,
    *,
    act_order: bool = True,
    damping: float = DAMPING,
    block_size: int = BLOCK_SIZE,
    clip: str = "none",
    name: str = "",
) -> QuantizedLinear:
    """Quantize one weight matrix [d_out, d_in] by GPTQ.

    ``hessian`` [d_in, d_in] is X^T X / n, or what ``prepare`` made of it (then ``act_order`` and ``damping`` are
    those it was prepared with). ``clip="mse"`` searches every group's range, errors weighted by H's diagonal.
    Works in float32, or in float64 for a float64 weight. Raises ``QuantizeError`` naming ``name``.
    """
    if not isinstance(hessian, Prepared):
        hessian = prepare(hessian, act_order=act_order, damping=damping, name=name)
    found = quantize_gptq_site({name: weight}, hessian, [bits], group_size, block_size=block_size, clip=clip)
    return found[name, bits]


def quantize_gptq_site(
    weights: Mapping[str, Tensor],
    prepared: Prepared,
    widths: Sequence[int],
    group_size: int,
    *,
    block_size: int = BLOCK_SIZE,
    clip: str = "none",
) -> dict[tuple[str, int], QuantizedLinear]:
    """Quantize linears that read one input, at several widths, in one sweep over the columns.

    weights: name -> [d_out_i, d_in]. Rows are independent in GPTQ, so rows of all linears at all widths stand side
    by side and share each column's few small operations; the results are those of ``quantize_gptq`` one by one.
    Memory: about three matrices of [d_in, len(widths) * sum d_out_i] float32.
    """
    d_in = prepared.order.shape[0]
    for name, weight in weights.items():
        if weight.dim() == 2 and weight.shape[1] != d_in:
            raise QuantizeError(f"{label(name)} is {list(weight.shape)}, its Hessian [{d_in}, {d_in}]")
        for bits in widths:
            check_weight(weight, bits, group_size, name)
    dtype = torch.float64 if any(w.dtype == torch.float64 for w in weights.values()) else torch.float32
    live = {name: w.detach().to(dtype).masked_fill(prepared.dead, 0) for name, w in weights.items()}
    jobs = [(name, bits) for bits in widths for name in weights]
    codes, scales, zeros = sweep([live[name] for name, _ in jobs], jobs, prepared, group_size, block_size, clip)
    found, row = {}, 0
    for name, bits in jobs:
        rows = slice(row, row + live[name].shape[0])
        found[name, bits] = QuantizedLinear(
            codes=codes[:, rows].T.contiguous(),
            scales=scales[:, rows].T.to(torch.float16).contiguous(),
            zeros=zeros[:, rows].T.to(torch.uint8).contiguous(),
            bits=bits,
            group_size=group_size,
        )
        row = rows.stop
    return found


def sweep(
    weights: Sequence[Tensor],
    jobs: Sequence[tuple[str, int]],
    prepared: Prepared,
    group_size: int,
    block_size: int,
    clip: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1 of the paper over the rows of all jobs, matrices held transposed so that a column is contiguous.

    weights: one [d_out_i, d_in] per (name, bits) of ``jobs``, dead channels zeroed; R = sum d_out_i.
    Returns codes uint8 [d_in, R] in the original column order, scales and zeros float [n_groups, R].
    """
    d_in = prepared.order.shape[0]
    columns = torch.cat([w.T for w in weights], dim=1)[prepared.order]  # (d_in, R), i-th row = i-th column in turn
    upper = prepared.upper.to(columns.dtype)
    pivots = upper.diagonal().tolist()  # sqrt([H_F^-1]_jj) for every j
    rows = [w.shape[0] for w in weights]
    top = torch.cat([columns.new_full((n,), 2.0**bits - 1) for n, (_, bits) in zip(rows, jobs, strict=True)])

    def grids(parts: Sequence[Tensor], importance: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [
            group_grid(part, bits, group_size, clip=clip, importance=importance, name=name)
            for part, (name, bits) in zip(parts, jobs, strict=True)
        ]
        return torch.cat([s for s, _ in pairs]).T.contiguous(), torch.cat([z for _, z in pairs]).T.contiguous()

    if prepared.act_order:
        scales, zeros = grids(weights, prepared.diagonal)  # (n_groups, R)
    else:
        scales, zeros = (columns.new_empty(d_in // group_size, columns.shape[1]) for _ in range(2))
        # Whole groups per block: a group's grid is then computed from columns that miss no update.
        block_size = group_size * max(1, block_size // group_size)
    group_of = (prepared.order // group_size).tolist()
    scale_rows, zero_rows = scales.unbind(0), zeros.unbind(0)
    codes = torch.empty(columns.shape, dtype=torch.uint8, device=columns.device)

    for start in range(0, d_in, block_size):
        stop = min(start + block_size, d_in)
        block, factor = columns[start:stop], upper[start:stop, start:stop]
        errors, chosen = torch.empty_like(block), torch.empty_like(block)
        # Views made once per block: slicing inside the loop would cost as much as the arithmetic.
        turns = zip(block.unbind(0), errors.unbind(0), chosen.unbind(0), strict=True)
        for i, (weight, error, code) in enumerate(turns):
            group = group_of[start + i]
            if not prepared.act_order and (start + i) % group_size == 0:
                ahead = block[i : i + group_size].T.split(rows)
                s, z = grids(ahead, prepared.diagonal[start + i : start + i + group_size])
                scales[group], zeros[group] = s[0], z[0]
            scale, zero = scale_rows[group], zero_rows[group]
            torch.div(weight, scale, out=code).round_().add_(zero).clamp_(min=0)
            torch.minimum(code, top, out=code)
            torch.sub(code, zero, out=error).mul_(scale).sub_(weight).div_(pivots[start + i])  # minus err_j
            if start + i + 1 < stop:
                block[i + 1 :].addr_(factor[i, i + 1 :], error)
        codes[prepared.order[start:stop]] = chosen.to(torch.uint8)
        if stop < d_in:
            columns[stop:].addmm_(upper[start:stop, stop:].T, errors)
    return codes, scales, zeros


def quantize_gptq_reference(
    weight: Tensor,
    hessian: Tensor,
    bits: int,
    group_size: int,
    *,
    act_order: bool = True,
    damping: float = DAMPING,
    clip: str = "none",
    name: str = "",
) -> QuantizedLinear:
    """The specification of ``quantize_gptq``: float64, one column at a time, the inverse updated as columns leave.

    [H_F^-1] of the columns that remain follows from the one before by Gaussian elimination of the row and column
    that left (eq. 3 of the paper). Cost d_in^3: for small matrices.
    """
    check_weight(weight, bits, group_size, name)
    damped, dead = damp(hessian.to(torch.float64), damping, name)
    diagonal = damped.diagonal()
    order = column_order(diagonal, act_order)
    w = weight.detach().to(torch.float64).masked_fill(dead, 0)
    inverse = torch.linalg.inv(damped[order][:, order])
    d_out, d_in = w.shape
    scales, zeros = group_grid(w, bits, group_size, clip=clip, importance=diagonal, name=name)
    codes = torch.zeros(d_out, d_in, dtype=torch.uint8)
    w = w[:, order]
    for i in range(d_in):
        j = int(order[i])
        group = j // group_size
        if not act_order and j % group_size == 0:
            here = slice(j, j + group_size)
            s, z = group_grid(w[:, here], bits, group_size, clip=clip, importance=diagonal[here], name=name)
            scales[:, group], zeros[:, group] = s[:, 0], z[:, 0]
        code = nearest_codes(w[:, i], scales[:, group], zeros[:, group], bits)
        error = (w[:, i] - (code - zeros[:, group]) * scales[:, group]) / inverse[i, i]
        w[:, i:] -= torch.outer(error, inverse[i, i:])
        inverse = inverse - torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        codes[:, j] = code.to(torch.uint8)
    return QuantizedLinear(codes, scales.to(torch.float16), zeros.to(torch.uint8), bits, group_size)
