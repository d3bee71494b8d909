"""A stage for ``tests.pretended_gpu``: what its device does, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch


def main(argv: Sequence[str] | None = None) -> int:
    """Move and compute on the device; raise ``AssertionError`` where something that CUDA refuses is done."""
    one, other = torch.ones(3, device="pgpu:0"), torch.ones(3)
    assert (one + one.cpu().to("pgpu:0")).device.type == "pgpu"
    assert float(one.sum()) == 3
    assert float((one * torch.tensor(2.0)).sum()) == 6
    largest = one.max(0)  # a result of two tensors with names
    assert largest.values.device.type == largest.indices.device.type == "pgpu"
    other.copy_(one)
    assert other.device.type == "cpu"
    wrong = [
        lambda: one + other,
        lambda: one @ other,
        lambda: other[one.long()],
        lambda: one.numpy(),
        lambda: torch.multinomial(one, 1, generator=torch.Generator()),
    ]
    for call in wrong:
        with pytest.raises(RuntimeError) as caught:
            call()
        assert caught.type.__name__ == "DeviceError", caught.value  # the class of the program, not of the module
    return 0
