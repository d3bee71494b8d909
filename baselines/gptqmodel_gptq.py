"""Uniform GPTQ by gptqmodel, the maintained successor of auto-gptq; its file is repacked bit for bit.

Asymmetric; groups in the order of the columns (``desc_act`` without static groups makes groups that no other format
has). Where the study's group size does not divide a row, the package's ``dynamic`` table gets the smaller one of our
own methods. Saved as "gptq_v2": the first version of the format stores zero-points minus one and cannot hold 0.
"""

import os
import re
from collections import Counter
from functools import partial

from pydantic import Field

from ramp.methods.kinds import Package, Params
from ramp.methods.package_job import PackageJob
from ramp.packages.packed_files import keep_saved
from ramp.quantizers.packed_formats import unpack_gptq


class GptqmodelParams(Params):
    """Options of gptqmodel's QuantizeConfig; defaults are its own, except sym."""

    damping: float = Field(default=0.05, gt=0, description="damp_percent: share of the Hessian's mean diagonal")
    mse: float = Field(default=0.0, ge=0, description="norm of its clip search over ranges; 0 turns it off")
    sym: bool = Field(default=False, description="symmetric grids (its own default is true)")
    act_order: bool = Field(
        default=False, description="desc_act, with static groups: groups then lie in the columns' order in the file"
    )
    act_group_aware: bool = Field(
        default=True, description="its own kind of act_order, which keeps groups whole; off where act_order is set"
    )
    batch_size: int = Field(default=1, gt=0, description="calibration windows per forward pass")


def quantize(job: PackageJob, params: GptqmodelParams) -> None:
    """Quantize, save, and read the saved file back into codes, scales and zero-points."""
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # read at import; its loader asks for two
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    torch.manual_seed(job.seed)
    common = Counter(job.group_sizes.values()).most_common(1)[0][0]
    others = {name: size for name, size in job.group_sizes.items() if size != common}
    config = QuantizeConfig(
        bits=job.bits,
        group_size=common,
        sym=params.sym,
        desc_act=params.act_order,
        static_groups=params.act_order,
        act_group_aware=params.act_group_aware and not params.act_order,
        format="gptq_v2",
        damp_percent=params.damping,
        mse=params.mse,
        dynamic={f"+:^{re.escape(name)}$": {"group_size": size} for name, size in others.items()},
        device=job.device,
    )
    model = GPTQModel.load(str(job.model_dir), config, dtype=torch.float32)
    windows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job.tokens.tolist()]
    model.quantize(windows, batch_size=params.batch_size)
    model.save(str(job.work_dir / "model"))

    unpack = partial(unpack_gptq, bits=job.bits, v1=False)
    keep_saved(job, job.work_dir / "model", ("qweight", "qzeros", "scales", "g_idx"), unpack, job.group_sizes)


METHOD = Package(
    title="GPTQ (gptqmodel)",
    source="Frantar et al. 2022, arXiv:2210.17323, as in gptqmodel",
    quantize=quantize,
    params=GptqmodelParams,
    requirements=("gptqmodel==7.6.0", "torch==2.13.0", "transformers==5.23.0", "optimum==2.3.0", "numpy==2.2.6"),
    bits=(2, 3, 4, 8),
    environment="gptqmodel",
)
