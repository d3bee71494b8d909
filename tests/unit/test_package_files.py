"""A package's own files: shards, bfloat16, and what counts as changed; against torch's reading and rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ramp.methods.package_job import PackageJob, read_linear
from ramp.models.architecture import ModelError
from ramp.models.folder import CheckpointReader
from ramp.packages.packed_files import changed, keep_saved


def test_a_folder_of_files_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    save_file({"a": values, "b": values.to(torch.bfloat16)}, tmp_path / "own-name.safetensors")
    checkpoint = CheckpointReader(tmp_path)
    assert checkpoint.names() == ["a", "b"]
    assert torch.equal(checkpoint.get("a"), values)
    assert torch.equal(checkpoint.get("b"), values.to(torch.bfloat16))
    with pytest.raises(ModelError, match="no tensor 'c'"):
        checkpoint.get("c")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        CheckpointReader(tmp_path / "none")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_is_no_change(dtype: torch.dtype) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    saved = values.to(dtype)
    assert not changed(saved, values)
    other = saved.clone()
    other[7] *= 1.01
    assert changed(other, values)
    assert changed(saved[:5], values)


def test_a_saved_checkpoint_is_handed_over(tmp_path: Path) -> None:
    """Linears unpacked, the norm that was changed and not the one that was only rounded, and the files."""
    original, native = tmp_path / "model", tmp_path / "native"
    generator = torch.Generator().manual_seed(0)
    norms = {name: torch.rand(4, generator=generator) for name in ("same.weight", "changed.weight")}
    original.mkdir()
    save_file({**norms, "q.weight": torch.zeros(2, 4)}, original / "model.safetensors")
    native.mkdir()
    words = {"q.codes": torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]]), "q.scales": torch.ones(2, 1)}
    saved = {"same.weight": norms["same.weight"].half(), "changed.weight": 2 * norms["changed.weight"]}
    save_file({**words, **saved}, native / "model.safetensors")
    job = PackageJob(original, np.zeros((1, 4), np.int64), 2, 4, {"q": 4}, {"q": (2, 4)}, native)
    keep_saved(job, native, ("codes", "scales"), lambda codes, scales: (codes, scales, 0 * scales), {"q": 4})
    np.testing.assert_array_equal(read_linear(tmp_path, "q")[0]["codes"], words["q.codes"].numpy())
    assert set(job.others) == {"changed.weight"}
    assert job.native_files == ["model.safetensors"]
