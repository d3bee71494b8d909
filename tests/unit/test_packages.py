"""Weights that a package hands over, written and read back bit for bit, or refused; and the package's own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ramp.methods.package_job import OTHERS, PackageError, PackageJob, one_sentence, read_linear
from ramp.models.architecture import ModelError
from ramp.models.folder import CheckpointReader
from ramp.packages.packed_files import changed, keep_saved
from ramp.quantizers.packed_formats import PackedFormatError
from tests.refusals import refused

D_OUT, D_IN, GROUP = 4, 16, 8


def job(folder: Path, bits: int = 3) -> PackageJob:
    work = folder / "native"
    work.mkdir(parents=True, exist_ok=True)
    tokens = np.zeros((1, 4), dtype=np.int64)
    linears = {"a.q_proj": (D_OUT, D_IN), "a.k_proj": (D_OUT, D_IN)}
    return PackageJob(Path("model"), tokens, bits, GROUP, dict.fromkeys(linears, GROUP), linears, work)


def parts(bits: int = 3, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "codes": rng.integers(0, 2**bits, (D_OUT, D_IN)).astype(np.uint8),
        "scales": rng.uniform(0.01, 1, (D_OUT, D_IN // GROUP)).astype(np.float16),
        "zeros": rng.integers(0, 2**bits, (D_OUT, D_IN // GROUP)).astype(np.uint8),
    }


@pytest.mark.parametrize("made", [np.asarray, torch.from_numpy])
def test_an_affine_linear_comes_back(tmp_path: Path, made) -> None:
    mine, given = job(tmp_path), parts()
    mine.keep("a.q_proj", *(made(each) for each in given.values()), group_size=GROUP)
    tensors, about = read_linear(tmp_path, "a.q_proj")
    assert about == {"kind": "affine", "group_size": GROUP, "bits": 3}
    for name, each in given.items():
        assert tensors[name].dtype == each.dtype
        np.testing.assert_array_equal(tensors[name], each)


def test_a_dense_linear_and_other_tensors_come_back(tmp_path: Path) -> None:
    mine = job(tmp_path)
    weight = torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    mine.keep_dense("a.q_proj", weight, packed_bytes=40)
    mine.keep_dense("a.k_proj", weight.float().numpy(), packed_bytes=41)
    mine.keep_other("a.norm.weight", torch.ones(3, dtype=torch.float16))
    mine.finish()
    tensors, about = read_linear(tmp_path, "a.q_proj")
    assert about == {"kind": "dense", "packed_bytes": 40}
    np.testing.assert_array_equal(tensors["weight"], weight.float().numpy())
    assert (tmp_path / OTHERS).is_file()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codes": np.full((D_OUT, D_IN), 8)}, "codes run from 8 to 8, the grid has 0 to 7"),
        ({"zeros": np.full((D_OUT, 2), 1.5)}, "zero-points are not whole numbers"),
        ({"zeros": np.full((D_OUT, 2), -1)}, "zero-points run from -1"),
        ({"scales": np.full((D_OUT, 2), 0.1, np.float32)}, "scales are not exact in float16"),
        ({"scales": np.full((D_OUT, 2), np.nan)}, "scales are NaN"),
        ({"scales": np.ones((D_OUT, 1))}, r"scales are \[4, 1\], expected \[4, 2\]"),
        ({"codes": np.zeros((D_IN, D_OUT))}, r"codes are \[16, 4\], expected"),
    ],
)
def test_what_the_grid_cannot_hold_is_refused(tmp_path: Path, change: dict, reason: str) -> None:
    mine = job(tmp_path)
    with pytest.raises(PackageError, match=reason):
        mine.keep("a.q_proj", **(parts() | change), group_size=GROUP)
    assert not mine.kept


def test_wrong_names_groups_bytes_and_files_are_refused(tmp_path: Path) -> None:
    mine = job(tmp_path)
    weight = np.ones((D_OUT, D_IN), np.float32)
    refused = {
        "no linear 'b'": lambda: mine.keep("b", **parts(), group_size=GROUP),
        "groups of 5": lambda: mine.keep("a.q_proj", **parts(), group_size=5),
        "count them again": lambda: mine.keep_dense("a.q_proj", weight, packed_bytes=D_OUT * D_IN * 4 + 1),
        "float64": lambda: mine.keep_dense("a.q_proj", weight.astype(np.float64), packed_bytes=8),
        "with keep": lambda: mine.keep_other("a.q_proj.weight", weight),
        "no file": lambda: mine.native("nothing.bin"),
    }
    for reason, call in refused.items():
        with pytest.raises(PackageError, match=reason):
            call()
    (tmp_path / "outside.bin").write_bytes(b"1")
    with pytest.raises(PackageError, match="no file"):
        mine.native(tmp_path / "outside.bin")
    mine.keep("a.q_proj", **parts(), group_size=GROUP)
    with pytest.raises(PackageError, match="twice"):
        mine.keep("a.q_proj", **parts(), group_size=GROUP)
    with pytest.raises(PackageError, match="1 linears"):
        mine.finish()


def test_a_reason_is_one_line_without_folders() -> None:
    text = "Traceback\n  File x\nValueError: no /home/me/lib/torch/thing.so; give   up\n\n"
    assert one_sentence(text) == "ValueError: no .../thing.so, give up"
    assert len(one_sentence("x" * 999)) == 300
    assert one_sentence("  \n") == "no message"


def test_a_weight_on_its_grid_is_kept_as_codes(tmp_path: Path) -> None:
    """Scales beyond float16 are rounded after the codes were found; another grid is refused."""
    mine, given = job(tmp_path), parts()
    scales = given["scales"].astype(np.float32) * np.float32(1.0001)
    zeros = given["zeros"].astype(np.float32)
    steps = given["codes"].reshape(D_OUT, -1, GROUP).astype(np.float32) - zeros[..., None]
    weight = torch.from_numpy((steps * scales[..., None]).reshape(D_OUT, D_IN))
    with pytest.raises(PackedFormatError, match="not on its grid"):
        mine.keep_weight("a.q_proj", weight * 1.3, scales, zeros)
    mine.keep_weight("a.q_proj", weight, scales, zeros)
    tensors, about = read_linear(tmp_path, "a.q_proj")
    assert about == {"kind": "affine", "group_size": GROUP, "bits": 3}
    np.testing.assert_array_equal(tensors["codes"], given["codes"])
    np.testing.assert_array_equal(tensors["scales"], scales.astype(np.float16))


def test_a_folder_of_files_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    save_file({"a": values, "b": values.to(torch.bfloat16)}, tmp_path / "own-name.safetensors")
    checkpoint = CheckpointReader(tmp_path, [tmp_path / "own-name.safetensors"])
    assert checkpoint.names() == ["a", "b"]
    assert torch.equal(checkpoint.get("a"), values)
    assert torch.equal(checkpoint.get("b"), values.to(torch.bfloat16))
    calls = {
        "no tensor 'c'": lambda: checkpoint.get("c"),
        "holds own-name.safetensors": lambda: CheckpointReader(tmp_path),
        "no model.safetensors": lambda: CheckpointReader(tmp_path / "none"),
    }
    refused(ModelError, calls)


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
