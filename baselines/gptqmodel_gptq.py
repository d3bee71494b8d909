"""Uniform GPTQ by gptqmodel, the maintained successor of auto-gptq; its file is repacked bit for bit.

Asymmetric, groups in the order of the columns (``desc_act=False``: with it, and without static groups, a file's groups
follow the activation order and are no groups of ours). Where the study's group size does not divide a row, the smaller
one that our own methods use there is given through the package's ``dynamic`` table.
"""

import os
import re
from collections import Counter

from pydantic import Field

from ramp.methods import Package, Params
from ramp.package_formats import Checkpoint, changed, unpack_gptq
from ramp.packages import PackageError, PackageJob


class GptqmodelParams(Params):
    """What gptqmodel's QuantizeConfig is given beside bits and group size; its own defaults are marked."""

    damping: float = Field(
        default=0.05, gt=0, description="damp_percent: share of the Hessian's mean diagonal (its own)"
    )
    mse: float = Field(default=0.0, ge=0, description="norm of its clip search over ranges, 0 turns it off (its own)")
    batch_size: int = Field(default=1, gt=0, description="calibration windows per forward pass")


def quantize(job: PackageJob, params: GptqmodelParams) -> None:
    """Quantize, save, read the saved file back into codes, scales and zero-points."""
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # read at import; one worker stops its loader
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    torch.manual_seed(job.seed)
    common = Counter(job.group_sizes.values()).most_common(1)[0][0]
    config = QuantizeConfig(
        bits=job.bits,
        group_size=common,
        sym=False,
        desc_act=False,
        act_group_aware=False,
        damp_percent=params.damping,
        mse=params.mse,
        dynamic={
            f"+:^{re.escape(name)}$": {"group_size": size} for name, size in job.group_sizes.items() if size != common
        },
        device=job.device,
        offload_to_disk=False,
    )
    model = GPTQModel.load(str(job.model_dir), config)
    windows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job.tokens.tolist()]
    model.quantize(windows, batch_size=params.batch_size)
    folder = job.work_dir / "model"
    model.save(str(folder))
    keep_file(job, folder, config)


def keep_file(job: PackageJob, folder, config) -> None:
    """Hand over what the file in ``folder`` holds."""
    saved, original = Checkpoint(folder), Checkpoint(job.model_dir)
    first_version = str(getattr(config.format, "value", config.format)) == "gptq"
    for name in job.linears:
        parts = {part: saved.get(f"{name}.{part}") for part in ("qweight", "qzeros", "scales", "g_idx")}
        found = unpack_gptq(**parts, bits=job.bits, zeros_minus_one=first_version)
        if found.group_size != job.group_sizes[name]:
            raise PackageError(f"{name} has groups of {found.group_size}, {job.group_sizes[name]} were asked for")
        job.keep(name, *found)
    for name in original:
        if name in saved and changed(saved.get(name), original.get(name)):
            job.keep_other(name, saved.get(name))
    job.native(*saved.paths)


METHOD = Package(
    name="gptqmodel_gptq",
    title="GPTQ (gptqmodel)",
    source="Frantar et al. 2022, arXiv:2210.17323, as in gptqmodel",
    quantize=quantize,
    params=GptqmodelParams,
    requirements=(
        "gptqmodel==7.6.0",
        "torch==2.13.0",
        "transformers==5.23.0",
        "optimum==2.3.0",
        "numpy==2.2.6",
    ),
    bits=(2, 3, 4, 8),
    environment="gptqmodel",
)
