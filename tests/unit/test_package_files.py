"""A package's own files: shards, bfloat16, and what counts as changed; against torch's reading and rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ramp.methods.package_job import PackageError
from ramp.packages.packed_files import Checkpoint, changed


def test_a_folder_of_files_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    save_file({"a": values, "b": values.to(torch.bfloat16)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert set(checkpoint) == {"a", "b"}
    assert [path.name for path in checkpoint.paths] == ["model.safetensors"]
    np.testing.assert_array_equal(checkpoint.get("a"), values.numpy())
    np.testing.assert_array_equal(checkpoint.get("b"), values.to(torch.bfloat16).float().numpy())
    with pytest.raises(PackageError, match="no tensor c"):
        checkpoint.get("c")
    with pytest.raises(PackageError, match="no safetensors files"):
        Checkpoint(tmp_path / "none")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_is_no_change(dtype: torch.dtype) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    saved = values.to(dtype)
    as_read = saved.float().numpy() if dtype == torch.bfloat16 else saved.numpy()
    assert not changed(as_read, values.numpy())
    other = as_read.copy()
    other[7] *= 1.01
    assert changed(other, values.numpy())
    assert changed(as_read[:5], values.numpy())
