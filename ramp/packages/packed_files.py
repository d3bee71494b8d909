"""A checkpoint that a package saved: compared with the original, tensor by tensor, and handed over.

It runs in a package's own environment, with torch. ``ramp.quantizers.packed_formats`` reads packed words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ramp.methods.package_job import PackageJob, as_array
from ramp.models.folder import CheckpointReader

if TYPE_CHECKING:
    from torch import Tensor


def changed(saved: Tensor, original: Tensor) -> bool:
    """Return whether a tensor differs from the checkpoint's by more than rounding to its dtype or to bfloat16."""
    if saved.shape != original.shape:
        return True
    rounded = (original.to(saved.dtype), original.bfloat16())
    return not any(saved.float().equal(each.float()) for each in rounded)


def keep_saved(
    job: PackageJob,
    folder: Path,
    parts: Sequence[str],
    unpack: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    group_sizes: Mapping[str, int],
) -> None:
    """Hand over a checkpoint that a package saved: its linears, other tensors that it changed, and its files.

    parts: names of a linear's tensors, which ``unpack`` takes and returns as (codes, scales, zeros) for ``job.keep``.
    """
    files = sorted(folder.glob("*.safetensors"))
    saved, original = CheckpointReader(folder, files), CheckpointReader(job.model_dir)
    for name in job.linears:
        words = {part: as_array(saved.get(f"{name}.{part}")) for part in parts}
        job.keep(name, *unpack(**words), group_size=group_sizes[name])
    for name in sorted({*original.names()} & {*saved.names()}):
        if changed(saved.get(name), original.get(name)):
            job.keep_other(name, saved.get(name))
    job.native(*files)
