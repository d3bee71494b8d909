"""AutoRound: roundings and clips learned by signed gradient descent, block by block. A small setting: 20 iterations.

(Its package's module is auto_round, so that this file does not hide it from a script started in this folder.)
"""

from pydantic import Field

from ramp.methods.kinds import Package, Params
from ramp.methods.package_job import PackageJob


class AutoRoundParams(Params):
    """Options of AutoRound; the paper's own setting is 200 iterations on 128 windows of 2,048 tokens."""

    iters: int = Field(default=20, gt=0, description="steps of signed gradient descent per decoder block")
    windows: int = Field(default=16, gt=0, description="calibration windows used, the first of those given")
    batch: int = Field(default=4, gt=0, description="windows per step")


def quantize(job: PackageJob, params: AutoRoundParams) -> None:
    """Quantize to asymmetric integers; group sizes as in our own methods."""
    import torch
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(job.seed)
    model = AutoModelForCausalLM.from_pretrained(job.model_dir, dtype=torch.float32)
    windows = torch.from_numpy(job.tokens[: params.windows])
    package = AutoRound(
        model,
        AutoTokenizer.from_pretrained(job.model_dir),
        bits=job.bits,
        group_size=job.group_size,
        sym=False,
        layer_config={name: {"group_size": size} for name, size in job.group_sizes.items()},
        dataset=torch.utils.data.DataLoader([{"input_ids": row} for row in windows], batch_size=params.batch),
        nsamples=len(windows),
        seqlen=windows.shape[1],
        batch_size=params.batch,
        iters=params.iters,
        seed=job.seed,
        device_map=job.device,
        enable_torch_compile=False,
        amp=False,
    )
    model, _ = package.quantize()
    modules = dict(model.named_modules())
    for name in job.linears:
        module = modules[name]
        scales, zeros = (part.float().reshape(len(module.weight), -1) for part in (module.scale, module.zp))
        job.keep_weight(name, module.weight.float(), scales, zeros)
    package.save_quantized(str(job.work_dir), format="auto_round:auto_gptq", inplace=True)
    job.native(*job.work_dir.glob("*.safetensors"))
    job.note(f"{params.iters} iterations, {len(windows)} windows")


METHOD = Package(
    title="AutoRound",
    source="intel/auto-round 0.15.1; Cheng et al. 2023, arXiv:2309.05516",
    quantize=quantize,
    params=AutoRoundParams,
    requirements=("auto-round==0.15.1", "torch==2.13.0", "transformers==5.23.0"),
)
