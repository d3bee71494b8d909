"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): quantize a column, then correct the next ones for its error.

The layer's output error over the calibration inputs X is tr(dW H dW^T) with H = X^T X / n. Quantizing column j and
moving the columns that are still free by the optimal-brain step

    err_j = (w_j - quant(w_j)) / [H_F^-1]_jj,    W_F <- W_F - err_j [H_F^-1]_j,F        (eq. 2 and 3 of the paper)

keeps that error small; F are the columns from j on. ``tests.reference_quantizers.quantize_gptq_reference`` is that, one
column at a time in float64: it is the specification, and this file gives the same codes.

This form never inverts H. With H = R R^T, R upper triangular (one Cholesky factorization), and e_i = w_i -
quant(w_i) counted from the *original* weights, the error is ||e R||^2, and column k is free to cancel what the ones
before it left in component k: it rounds

    w_k + sum_{i<k} e_i A_ik,    A_ik = R_ik / R_kk                                                              (*)

which is where the optimal-brain steps of columns 1 .. k-1 have moved w_k (the LDL form of GPTQ: Chee et al., QuIP,
NeurIPS 2023, arXiv:2307.13304, section 4 and theorem 6). Compared with the paper's Cholesky factor of H^-1 this saves
the triangular inverse, three quarters of the factorization's work, and its rounding errors.

The sums of (*) are lazily batched (the paper's step 2), by halving: the left half of the columns is finished, its
errors enter the right half's sums in one matrix product, then the right half is finished; only at ``block_size``
columns are they taken one by one.

Columns go by falling diagonal of H (``act_order``) or as they stand. With ``act_order`` every group's grid is fixed
beforehand from the original weights (*static groups*), so that a group is a run of neighbouring columns in memory
whatever the order; without it a group's grid is computed from the updated weights when its first column is reached.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear, QuantizeError, as_float, check_weight, group_grid, label

log = logging.getLogger(__name__)

DAMPING = 0.01
"""Share of the mean diagonal added to the diagonal: the paper's 1 % (section 3.3, step 3)."""

BLOCK_SIZE = 16
"""Columns taken one by one between two matrix products. Speed only."""

SWEEP_BYTES = 1 << 29
"""Working memory of one sweep: rows beyond it wait for the next (two float32 matrices [d_in, rows])."""


STRIPS, STRIPS_FROM = 8, 2048
"""Strips of a wide Hessian in ``output_error``, and the input width from which it is wide: narrower strips make matrix
products slow."""


@dataclass(frozen=True)
class Prepared:
    """One factored Hessian, shared by every linear that reads the same input and by every width."""

    feedback: Tensor  # float [d_in, d_in]: A of equation (*), strictly upper triangular part; order of ``order``
    order: Tensor  # int64 [d_in]: order[i] is the column quantized i-th
    diagonal: Tensor  # float [d_in]: damped diagonal of H in the original order
    dead: Tensor  # bool [d_in]: input channels that were zero on all calibration tokens
    act_order: bool


def output_error(difference: Tensor, hessian: Tensor) -> float:
    """Return tr(D H D^T), the squared output error per token of a weight difference D [d_out, d_in], H [d_in, d_in].

    H is symmetric: of wide ones the strips from the diagonal on are taken, 9/16 of the work, and what lies beside the
    diagonal counts twice.
    """
    hessian, d_in = hessian.to(difference.dtype), difference.shape[1]
    if d_in < STRIPS_FROM:
        return float(torch.einsum("ij,ij->", difference @ hessian, difference))
    total, step = 0.0, -(-d_in // STRIPS)
    for start in range(0, d_in, step):
        own, later = difference[:, start : start + step], difference[:, start + step :]
        product = own @ hessian[start : start + step, start:]
        total += float(torch.einsum("ij,ij->", product[:, : own.shape[1]], own))
        total += 2 * float(torch.einsum("ij,ij->", product[:, own.shape[1] :], later))
    return total


def check_hessian(hessian: Tensor, name: str = "") -> Tensor:
    """Return a Hessian's diagonal [d_in]; raise ``QuantizeError`` unless it is square, finite and not zero."""
    if hessian.dim() != 2 or hessian.shape[0] != hessian.shape[1]:
        raise QuantizeError(f"{label(name)}: a Hessian is square, this one is {list(hessian.shape)}")
    if not bool(torch.isfinite(hessian).all()):
        raise QuantizeError(f"{label(name)}: the Hessian has NaN or infinite entries: calibration overflowed before it")
    if not bool(hessian.diagonal().any()):
        raise QuantizeError(f"{label(name)}: the Hessian is zero: no calibration token reached this input")
    return hessian.diagonal()


def damped_diagonal(hessian: Tensor, damping: float, name: str = "") -> tuple[Tensor, Tensor, float]:
    """Return (damped diagonal of H [d_in], dead channels [d_in], the value that damping added).

    A dead channel (zero diagonal) cannot matter to the calibration data: like the reference implementation
    (IST-DASLab/gptq, ``fasterquant``) its diagonal is made positive and its weights are set to zero by the caller.
    The value is the mean of the living diagonals, where the reference has 1, so that H's scale does not matter.
    """
    if damping < 0:
        raise QuantizeError(f"{label(name)}: damping {damping} is negative")
    diagonal = check_hessian(hessian, name).detach().clone()
    dead = diagonal == 0
    count = int(dead.sum())
    mean = diagonal[~dead].mean()
    if count:
        log.debug("%s: %d of %d input channels are dead, their weights become 0", label(name), count, len(dead))
        diagonal[dead] = mean
    added = damping * float(mean)
    return diagonal + added, dead, added


def column_order(diagonal: Tensor, act_order: bool) -> Tensor:
    """Return the order of quantization, int64 [d_in], for the diagonal [d_in] of a Hessian.

    By falling diagonal (stable: ties keep their order) with ``act_order``, else as the columns are.
    """
    if act_order:
        return torch.argsort(diagonal, descending=True, stable=True)
    return torch.arange(diagonal.shape[0], device=diagonal.device)


def upper_factor(backwards: Tensor) -> Tensor | None:
    """Return R upper triangular with H = R R^T, or None where H is not positive definite in its precision.

    ``backwards`` is H with rows and columns in reverse order, J H J: with J H J = L L^T, R = J L J. Both are float32 or
    float64 [d_in, d_in].
    """
    lower, info = torch.linalg.cholesky_ex(backwards)
    if int(info) or not bool(torch.isfinite(lower).all()):
        return None
    return lower.flip(0, 1)


def prepare(hessian: Tensor, *, act_order: bool = True, damping: float = DAMPING, name: str = "") -> Prepared:
    """Order the columns and factor the damped ``hessian`` [d_in, d_in], float32 or float64.

    Factored in the Hessian's precision, then in float64 if that fails. Raises ``QuantizeError`` naming ``name``
    for a Hessian with NaN entries, of zeros, or not positive definite even so. The debug log names channels that the
    calibration tokens hardly distinguish from others.
    """
    diagonal, dead, added = damped_diagonal(as_float(hessian), damping, name)
    order = column_order(diagonal, act_order)
    reverse = order.flip(0)
    backwards = as_float(hessian).index_select(0, reverse).index_select(1, reverse)
    backwards.diagonal().copy_(diagonal[reverse])
    factor = upper_factor(backwards)
    if factor is None:
        log.debug("%s: Hessian not positive definite in %s, factored in float64", label(name), backwards.dtype)
        factor = upper_factor(backwards.to(torch.float64))
        if factor is None:
            raise QuantizeError(
                f"{label(name)}: the Hessian is not positive definite at damping {damping}: "
                "raise the damping or calibrate on more text"
            )
    pivots = factor.diagonal().clone()
    # pivot^2 is the variance that is left of a channel, given all that come after it
    close = int((pivots.square() < 10 * added).sum())
    if close:
        log.debug(
            "%s: damping %g adds %.3g, a tenth or more of the conditional variance of %d of %d input channels",
            label(name), damping, added, close, len(pivots),
        )  # fmt: skip
    feedback = factor.div_(pivots).to(backwards.dtype)
    return Prepared(feedback=feedback, order=order, diagonal=diagonal, dead=dead, act_order=act_order)


def quantize_gptq_site(
    weights: Mapping[str, Tensor],
    prepared: Prepared,
    widths: Sequence[int],
    group_size: int,
    *,
    block_size: int = BLOCK_SIZE,
    clip: str = "none",
    sym: bool = False,
    sweep_bytes: int = SWEEP_BYTES,
) -> dict[tuple[str, int], QuantizedLinear]:
    """Quantize linears that read one input, at several widths, in as few sweeps over the columns as memory allows.

    weights: name -> [d_out_i, d_in], in groups of ``group_size`` (-1: one group per row); prepared: of their Hessian.
    Rows are independent in GPTQ, so rows of all linears at all widths stand side by side and share each column's few
    small operations. ``clip="mse"`` searches every group's range, errors weighted by H's diagonal; ``sym`` takes
    symmetric grids. Works in float32, or in float64 for a float64 weight. ``sweep_bytes`` bounds the working memory
    beside weights and results. Raises ``QuantizeError`` naming the linear.
    """
    d_in = prepared.order.shape[0]
    for name, weight in weights.items():
        if weight.dim() == 2 and weight.shape[1] != d_in:
            raise QuantizeError(f"{label(name)} is {list(weight.shape)}, its Hessian [{d_in}, {d_in}]")
        for bits in widths:
            group = check_weight(weight, bits, group_size, name)
    dtype = torch.float64 if any(w.dtype == torch.float64 for w in weights.values()) else torch.float32
    found = {
        (name, bits): QuantizedLinear(
            codes=weight.new_empty(weight.shape, dtype=torch.uint8),
            scales=weight.new_empty((len(weight), d_in // group), dtype=torch.float16),
            zeros=weight.new_empty((len(weight), d_in // group), dtype=torch.uint8),
            bits=bits,
            group_size=group,
        )
        for bits in widths
        for name, weight in weights.items()
    }
    limit = max(1, sweep_bytes // (2 * d_in * (8 if dtype == torch.float64 else 4)))
    for pieces in row_pieces([(name, bits, len(weights[name])) for bits in widths for name in weights], limit):
        parts = [weights[name][rows].detach().to(dtype).masked_fill(prepared.dead, 0) for name, _, rows in pieces]
        sweep = Sweep(parts, [bits for _, bits, _ in pieces], prepared, group, clip, sym, [n for n, _, _ in pieces])
        sweep.descend(0, d_in, block_size)
        for (name, bits, rows), codes, scales, zeros in zip(pieces, *sweep.results(), strict=True):
            q = found[name, bits]
            q.codes[rows], q.scales[rows], q.zeros[rows] = codes, scales, zeros
    return found


Piece = tuple[str, int, slice]
"""Rows of one linear at one width: (name, bits, rows)."""


def row_pieces(jobs: Sequence[tuple[str, int, int]], limit: int) -> Iterator[list[Piece]]:
    """Cut jobs (name, bits, d_out) into runs of at most ``limit`` rows each."""
    run: list[Piece] = []
    room = limit
    for name, bits, d_out in jobs:
        start = 0
        while start < d_out:
            stop = min(d_out, start + room)
            run.append((name, bits, slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield run
                run, room = [], limit
    if run:
        yield run


class Sweep:
    """One pass over the columns for R rows, matrices held transposed so that a column is contiguous memory."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        bits: Sequence[int],
        prepared: Prepared,
        group_size: int,
        clip: str,
        sym: bool,
        names: Sequence[str],
    ) -> None:
        """weights: [d_out_i, d_in] each, dead channels zeroed, one width each; R = sum d_out_i."""
        self.prepared, self.group_size, self.clip, self.sym = prepared, group_size, clip, sym
        self.bits, self.names, self.rows = bits, names, [w.shape[0] for w in weights]
        together = weights[0] if len(weights) == 1 else torch.cat(list(weights))
        # (d_in, R), i-th row = i-th column in turn: the weights, and behind the front what they were off, e_i
        self.columns = together.T.contiguous()
        if prepared.act_order:
            self.columns = self.columns.index_select(0, prepared.order)
        self.sums = self.columns.clone()  # (*), and behind the front the codes less the zero-point
        self.feedback = prepared.feedback.to(self.columns.dtype)
        self.tops = torch.cat([self.columns.new_full((n,), 2.0**b - 1) for n, b in zip(self.rows, bits, strict=True)])
        n_groups = len(prepared.order) // group_size
        self.scales, self.zeros, self.lows, self.highs = (
            self.columns.new_empty(n_groups, self.columns.shape[1]) for _ in range(4)
        )
        self.group_of = (prepared.order // group_size).tolist()
        if prepared.act_order:
            self.set_grids(weights, slice(None), prepared.diagonal)

    def set_grids(self, parts: Sequence[Tensor], groups: slice, importance: Tensor) -> None:
        """Set the grids of some groups from weights [d_out_i, columns of these groups]; importance [columns]."""
        pairs = [
            group_grid(part, bits, self.group_size, clip=self.clip, importance=importance, name=name, sym=self.sym)
            for part, bits, name in zip(parts, self.bits, self.names, strict=True)
        ]
        self.scales[groups] = torch.cat([s for s, _ in pairs]).T
        self.zeros[groups] = torch.cat([z for _, z in pairs]).T
        self.lows[groups] = -self.zeros[groups]
        self.highs[groups] = self.tops - self.zeros[groups]

    def descend(self, start: int, stop: int, block_size: int) -> None:
        """Finish columns start .. stop - 1; ``sums`` already holds what all columns before ``start`` left them."""
        size, group = stop - start, self.group_size
        dynamic = not self.prepared.act_order
        if dynamic and size == group:
            self.grid_from_updated(start, stop)
        if size <= block_size and (size <= group or not dynamic):
            self.one_by_one(start, stop)
            return
        unit = group if dynamic and size > group else 1
        middle = start + unit * (size // unit // 2)
        self.descend(start, middle, block_size)
        self.sums[middle:stop].addmm_(self.feedback[start:middle, middle:stop].T, self.columns[start:middle])
        self.descend(middle, stop, block_size)

    def grid_from_updated(self, start: int, stop: int) -> None:
        """Set the grid of one group from its columns as the optimal-brain steps of all columns before have moved them.

        Such a step leaves the free part e_F of the error where (e R)_F = 0. With c the sums' part of (*), that is
        e_F = -c (I + A_FF)^-1, whose first columns need A's triangle over the group alone.
        """
        moved = self.sums[start:stop] - self.columns[start:stop]
        triangle = self.feedback[start:stop, start:stop].T  # strictly: the diagonal is taken as ones
        moved = torch.linalg.solve_triangular(triangle, moved, upper=False, unitriangular=True)
        parts = (self.columns[start:stop] + moved).T.split(self.rows)
        group = start // self.group_size
        self.set_grids(parts, slice(group, group + 1), self.prepared.diagonal[start:stop])

    def one_by_one(self, start: int, stop: int) -> None:
        """Round each column at its sum (*) and add its error to the sums of the next ones of this block."""
        errors, sums = self.columns[start:stop].unbind(0), self.sums[start:stop].unbind(0)
        for i, (error, code) in enumerate(zip(errors, sums, strict=True)):
            group = self.group_of[start + i]
            scale = self.scales[group]
            if i:
                code.addmv_(self.columns[start : start + i].T, self.feedback[start : start + i, start + i])
            torch.clamp(code.div_(scale).round_(), self.lows[group], self.highs[group], out=code)
            error.addcmul_(code, scale, value=-1)

    def results(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return (codes uint8 [d_out_i, d_in], scales float16, zeros uint8 [d_out_i, n_groups]) of each part."""
        d_in, total = self.sums.shape
        codes = torch.empty(total, d_in, dtype=torch.uint8, device=self.sums.device)
        position = torch.argsort(self.prepared.order)
        wide = max(1, 256 // self.group_size)  # groups at a time: a slice of the codes as floats, not all of them
        for group in range(0, len(self.zeros), wide):
            zeros = self.zeros[group : group + wide].repeat_interleave(self.group_size, 0)
            here = slice(group * self.group_size, group * self.group_size + len(zeros))
            codes[:, here] = self.sums.index_select(0, position[here]).add_(zeros).to(torch.uint8).T
        scales, zeros = self.scales.T.to(torch.float16), self.zeros.T.to(torch.uint8)
        return list(codes.split(self.rows)), list(scales.split(self.rows)), list(zeros.split(self.rows))
