"""Activation-aware clipping: each group's range shrunk to the least *output* error.

AWQ's second step (Lin et al., arXiv:2306.00978; ``auto_clip_block`` in mit-han-lab/llm-awq) tries smaller ranges for
every group of every row and keeps the one whose rounding moves that group's contribution to the output least over the
calibration tokens: mean_t (d_g . x_gt)^2 = d_g H_gg d_g^T, with H_gg the group's diagonal block of H = X^T X / n. The
cross terms inside the block matter: weighing squared errors by H's diagonal alone clips too much, because the errors of
clipped weights share a sign (numbers in docs/decisions.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ramp.quantizers.affine import (
    SHRINKS,
    QuantizedLinear,
    QuantizeError,
    check_weight,
    grid_for_range,
    label,
    nearest_codes,
)


def quantize_clipped(weight: Tensor, hessian: Tensor, bits: int, group_size: int, *, name: str = "") -> QuantizedLinear:
    """Round to nearest on grids whose range is the best of ``SHRINKS`` by output error.

    weight: float [d_out, d_in]; hessian: float [d_in, d_in]. The full range is among the candidates and wins ties, so
    no group's own output error exceeds plain rounding's. Raises ``QuantizeError`` naming ``name``.
    """
    check_weight(weight, bits, group_size, name)
    d_out, d_in = weight.shape
    if hessian.shape != (d_in, d_in) or not bool(torch.isfinite(hessian).all()):
        raise QuantizeError(f"{label(name)}: the Hessian {list(hessian.shape)} must be [{d_in}, {d_in}] and finite")
    n_groups = d_in // group_size
    dtype = torch.promote_types(weight.dtype, torch.float32)
    groups = weight.detach().to(dtype).reshape(d_out, n_groups, group_size)
    blocks = torch.stack(
        [hessian[start : start + group_size, start : start + group_size] for start in range(0, d_in, group_size)]
    ).to(dtype)  # (n_groups, group_size, group_size)
    low, high = groups.amin(-1), groups.amax(-1)  # (d_out, n_groups)
    scales, zeros = grid_for_range(low, high, bits, name)
    best = torch.full_like(low, torch.inf)
    for shrink in SHRINKS:
        s, z = grid_for_range(low * shrink, high * shrink, bits, name)
        wide_s, wide_z = s.unsqueeze(-1), z.unsqueeze(-1)
        d = nearest_codes(groups, wide_s, wide_z, bits).sub_(wide_z).mul_(wide_s).sub_(groups).transpose(0, 1)
        error = (torch.bmm(d, blocks) * d).sum(-1).T  # (d_out, n_groups)
        better = error < best
        best = torch.where(better, error, best)
        scales, zeros = torch.where(better, s, scales), torch.where(better, z, zeros)
    codes = nearest_codes(groups, scales.unsqueeze(-1), zeros.unsqueeze(-1), bits)
    return QuantizedLinear(
        codes=codes.to(torch.uint8).view(d_out, d_in),
        scales=scales.to(torch.float16),
        zeros=zeros.to(torch.uint8),
        bits=int(bits),
        group_size=group_size,
    )
