"""HQQ: zero-points fitted by half-quadratic splitting, from the weights alone, without any text.

Its zero-points are real numbers, which our grid cannot hold: rows are handed over as weights, with the bytes that they
take packed. (The file is not called hqq.py: that would hide the package from a script started in this folder.)
"""

from pydantic import Field

from ramp.methods.kinds import Footprint, Package, Params
from ramp.methods.package_job import PackageJob
from ramp.models.folder import CheckpointReader


class HqqParams(Params):
    """Options of HQQ; the solver's own settings (p = 0.7, 20 iterations) cannot be passed in this version."""

    optimize: bool = Field(default=True, description="fit zero-points with the proximal solver, or take the range's")


def quantize(job: PackageJob, params: HqqParams) -> None:
    """Quantize each linear by itself, groups along the input; scales and zero-points are stored as float16."""
    import torch
    from hqq.core.quantize import Quantizer
    from safetensors.torch import save_file

    torch.manual_seed(job.seed)
    checkpoint, native = CheckpointReader(job.model_dir), {}
    for name, (d_out, d_in) in job.linears.items():
        packed, meta = Quantizer.quantize(
            checkpoint.get(f"{name}.weight").float().to(job.device),
            nbits=job.bits,
            group_size=job.group_sizes[name],
            optimize=params.optimize,
            round_zero=job.bits == 4,  # as the package's own HQQLinear does; the solver moves them off again
            axis=1,
            device=job.device,
            compute_dtype=torch.float32,
        )
        native |= {f"{name}.W_q": packed, f"{name}.scale": meta["scale"].half(), f"{name}.zero": meta["zero"].half()}
        meta |= {part: native[f"{name}.{part}"].float() for part in ("scale", "zero")}
        groups = d_out * d_in // job.group_sizes[name]
        job.keep_dense(name, Quantizer.dequantize(packed, meta), d_out * -(-d_in * job.bits // 8) + 4 * groups)
    save_file({key: tensor.contiguous().cpu() for key, tensor in native.items()}, job.work_dir / "hqq.safetensors")
    job.native("hqq.safetensors")
    job.note("real zero-points, 16 bits each, where the other rows have whole ones")


METHOD = Package(
    title="HQQ",
    source="Badri and Shaji 2023, mobiusml/hqq 0.2.8.post1",
    quantize=quantize,
    params=HqqParams,
    requirements=("hqq==0.2.8.post1", "torch==2.13.0", "transformers==5.23.0"),
    environment="hqq",
    footprint=Footprint(host=1, card=1, dense=True),
)
