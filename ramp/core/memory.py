"""Peak memory of this process."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def peak_rss_bytes() -> int:
    """Return the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts KiB


def peak_gpu_bytes(device: torch.device) -> int | None:
    """Return the most memory that torch held on the GPU so far; None without one."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
