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

from ramp.quantizers.affine import QuantizedLinear, QuantizeError, as_float, best_range, check_weight, encode, label
from ramp.quantizers.gptq import check_hessian


def quantize_clipped(
    weight: Tensor, hessian: Tensor, bits: int, group_size: int, *, name: str = "", sym: bool = False
) -> QuantizedLinear:
    """Round to nearest on grids whose range is the best of ``SHRINKS`` by output error.

    weight: float [d_out, d_in]; hessian: float [d_in, d_in]. The full range is among the candidates and wins ties, so
    no group's own output error exceeds plain rounding's. A group whose channels are all dead keeps its full range.
    Raises ``QuantizeError`` naming ``name``.
    """
    group_size = check_weight(weight, bits, group_size, name)
    d_out, d_in = weight.shape
    check_hessian(hessian, name)
    if hessian.shape[0] != d_in:
        raise QuantizeError(f"{label(name)}: the Hessian {list(hessian.shape)} must be [{d_in}, {d_in}]")
    weight = as_float(weight)
    groups = weight.reshape(d_out, d_in // group_size, group_size)
    blocks = torch.stack(
        [hessian[start : start + group_size, start : start + group_size] for start in range(0, d_in, group_size)]
    ).to(weight.dtype)  # (n_groups, group_size, group_size)

    def output_errors(difference: Tensor) -> Tensor:
        d = difference.transpose(0, 1)  # (n_groups, d_out, group_size)
        return (torch.bmm(d, blocks) * d).sum(-1).T

    scales, zeros = best_range(groups, bits, output_errors, name, sym=sym)
    return encode(weight, scales, zeros, bits, group_size)
