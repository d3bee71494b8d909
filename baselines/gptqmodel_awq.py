"""Uniform AWQ by gptqmodel, 4 bits, asymmetric; its file is repacked bit for bit.

For AWQ the package has one group size per model: where our own methods use several, all linears get the smallest, which
takes more bytes for scales (in the row's note). Its kernel takes half precision only, so the model is rounded to
float16 before it is quantized. Norms take the scales that it folds.
"""

import os

from pydantic import Field

from ramp.methods.kinds import Footprint, Package, Params
from ramp.methods.package_job import PackageJob
from ramp.packages.packed_files import keep_saved
from ramp.quantizers.packed_formats import unpack_awq


class GptqmodelAwqParams(Params):
    """Options of gptqmodel; scale and clip search are always its own."""

    sym: bool = Field(default=False, description="symmetric grids (its own default is true)")
    batch_size: int = Field(default=1, gt=0, description="calibration windows per forward pass")


def quantize(job: PackageJob, params: GptqmodelAwqParams) -> None:
    """Quantize, save, and read the saved file back into codes, scales and zero-points."""
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # read at import; its loader asks for two
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    torch.manual_seed(job.seed)
    group_size = min(job.group_sizes.values())
    if group_size != max(job.group_sizes.values()):
        job.note(f"groups of {group_size} in every linear: the package has one group size for all")
    job.note("quantized from float16 weights")
    job.note("scales from activations and weights (duo scaling)")
    config = QuantizeConfig(
        bits=job.bits, group_size=group_size, sym=params.sym, quant_method="awq", format="gemm", device=job.device
    )
    backend = BACKEND.AWQ_TORCH if job.device == "cpu" else BACKEND.AUTO
    model = GPTQModel.load(str(job.model_dir), config, dtype=torch.float16)
    windows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job.tokens.tolist()]
    model.quantize(windows, batch_size=params.batch_size, backend=backend)
    model.save(str(job.work_dir / "model"))

    sizes = dict.fromkeys(job.linears, group_size)
    keep_saved(job, job.work_dir / "model", ("qweight", "qzeros", "scales"), unpack_awq, sizes)


METHOD = Package(
    title="AWQ (gptqmodel)",
    source="Lin et al. 2023, arXiv:2306.00978, as in gptqmodel",
    quantize=quantize,
    params=GptqmodelAwqParams,
    requirements=("gptqmodel==7.6.0", "torch==2.13.0", "transformers==5.23.0", "optimum==2.3.0", "numpy==2.2.6"),
    bits=(4,),
    environment="gptqmodel",
    footprint=Footprint(host=2, inputs=True),
)
