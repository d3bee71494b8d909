"""GPTQ by auto-gptq 0.7.1, unmaintained since 2024: its environment is frozen to what it still runs with.

On a CPU it needs a shim: it moves layers to "cuda:0" and waits for it. Its codes, scales and zero-points are taken from
its quantizer, before they are packed: its file stores zero - 1, where a zero-point of 0 changes its neighbours.
"""

import platform
import sys
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from pydantic import Field

from ramp.methods.kinds import Footprint, Package, Params
from ramp.methods.package_job import PackageJob


class AutoGptqParams(Params):
    """Options of auto-gptq."""

    act_order: bool = Field(default=True, description="desc_act, with static groups: columns by falling Hessian")
    damping: float = Field(default=0.01, gt=0, description="damp_percent, fraction of the Hessian's mean diagonal")
    batch: int = Field(default=1, gt=0, description="calibration windows at a time")


def skip() -> str | None:
    """Return why it cannot run: its last wheels are for Linux on x86-64, up to Python 3.11; its source needs CUDA."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.version_info[:2] > (3, 11):
        return "auto-gptq 0.7.1 has no wheel for this system or Python"
    return None


def quantize(job: PackageJob, params: AutoGptqParams) -> None:
    """Quantize block by block with quantized predecessors; group sizes as in our own methods."""
    import torch
    from auto_gptq import BaseQuantizeConfig
    from auto_gptq.modeling import _base
    from auto_gptq.modeling.auto import GPTQ_CAUSAL_LM_MODEL_MAP
    from transformers import AutoModelForCausalLM

    torch.manual_seed(job.seed)
    model = AutoModelForCausalLM.from_pretrained(job.model_dir, torch_dtype=torch.float32).to(job.device).eval()
    names = {module: name for name, module in model.named_modules() if name in job.linears}

    class Recorded(_base.GPTQ):
        """The package's class, with the group size of every linear; it hands the linear over."""

        def fasterquant(self, *args: Any, **kwargs: Any) -> Any:
            name = names[self.layer]
            out = super().fasterquant(*args, **{**kwargs, "group_size": job.group_sizes[name]})
            job.keep_weight(name, self.layer.weight, out[0], out[1])  # before packing changes the zeros
            return out

    settings = BaseQuantizeConfig(
        bits=job.bits,
        group_size=job.group_size,
        damp_percent=params.damping,
        desc_act=params.act_order,
        static_groups=params.act_order,
        sym=False,
    )
    windows = [{"input_ids": row[None], "attention_mask": row[None] * 0 + 1} for row in torch.from_numpy(job.tokens)]
    with ExitStack() as shim:
        shim.enter_context(patch.object(_base, "GPTQ", Recorded))
        if job.device == "cpu":
            shim.enter_context(patch.object(_base, "CUDA_0", torch.device("cpu")))
            shim.enter_context(patch.object(torch.cuda, "synchronize", lambda: None))
            shim.enter_context(patch("time.sleep", lambda seconds: None))  # it waits a second per linear for the GPU
        package = GPTQ_CAUSAL_LM_MODEL_MAP[model.config.model_type](model, False, settings)
        package.quantize(windows, batch_size=params.batch)
    package.save_quantized(str(job.work_dir), use_safetensors=True)
    job.native(*job.work_dir.glob("*.safetensors"))
    job.note("CPU shim: layers stay there" if job.device == "cpu" else "")
    job.note("its GPTQ class is overridden: every row's own group size, grids taken before they are packed")
    job.note("float32 scales rounded to float16")


METHOD = Package(
    title="GPTQ (auto-gptq)",
    source="AutoGPTQ/AutoGPTQ 0.7.1; Frantar et al. 2022, arXiv:2210.17323",
    quantize=quantize,
    params=AutoGptqParams,
    requirements=(
        "auto-gptq==0.7.1",
        "torch==2.13.0",
        "transformers==4.53.3",
        "peft==0.17.1",
        "datasets==4.5.0",
        "tokenizers==0.21.4",
        "huggingface_hub==0.36.2",
        "accelerate==1.15.0",
    ),
    environment="autogptq",
    skip=skip,
    footprint=Footprint(card=4),
)
