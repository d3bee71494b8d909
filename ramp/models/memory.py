"""Free memory of a device, and the place of hidden states: on it where they fit, else on the host, pinned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

SHARE = 0.5
"""Share of a device's free memory that states may take; the rest is left to blocks, activations and logits."""


def free_bytes(device: torch.device | str) -> int:
    """Return the bytes that this process may still take on a device: of a GPU, what its allocator holds unused too.

    Of a processor, what Linux calls available, or what its container may still take; elsewhere, as much as a process
    can address.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _available()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


CGROUP = Path("/sys/fs/cgroup")
"""Where a container's limits stand."""


def _available() -> int:
    found = [1 << 62]
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        found.append(max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no such file, or a limit of "max"
        pass
    return min(found)


class StateRoom:
    """Room for hidden states of one pass, shared out in the order in which it is asked for."""

    def __init__(self, device: torch.device | str, share: float = SHARE) -> None:
        self.device = torch.device(device)
        self._left = 0 if self.device.type == "cpu" else int(share * free_bytes(self.device))

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor: on the device while there is room, else in pinned memory of the host.

        Of a processor it is a tensor like any other.
        """
        if self.device.type == "cpu":
            return torch.empty(*shape, dtype=dtype)
        size = math.prod(shape) * dtype.itemsize
        if size <= self._left:
            self._left -= size
            return torch.empty(*shape, dtype=dtype, device=self.device)
        return torch.empty(*shape, dtype=dtype, pin_memory=True)

    def keep(self, states: Tensor) -> Tensor:
        """Return a copy of states there."""
        return self.empty(states.shape, states.dtype).copy_(states)


def all_finite(x: Tensor) -> Tensor:
    """Return whether all values are finite, a boolean scalar on their device: one pass, no copy of them is made."""
    least, greatest = torch.aminmax(x)  # NaN where there is one
    return torch.isfinite(least) & torch.isfinite(greatest)
