"""GPTQ by llmcompressor 0.14 (vLLM's compressor), an implementation independent of ours.

Its integers are signed, -2^(b-1) to 2^(b-1) - 1, codes and zero-points alike: both are shifted by 2^(b-1) to ours.
"""

from pydantic import Field

from ramp.methods.kinds import Footprint, Package, Params
from ramp.methods.package_job import PackageJob


class LlmCompressorParams(Params):
    """Options of llmcompressor's GPTQModifier."""

    act_order: bool = Field(default=True, description="actorder static: columns by falling Hessian, groups in place")
    damping: float = Field(default=0.01, gt=0, description="dampening_frac, fraction of the Hessian's mean diagonal")
    block_size: int = Field(default=128, gt=0, description="columns updated lazily at a time; speed only")


def quantize(job: PackageJob, params: LlmCompressorParams) -> None:
    """Quantize block by block with quantized predecessors; one scheme for each group size of our own methods."""
    import torch
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoModelForCausalLM

    torch.manual_seed(job.seed)
    model = AutoModelForCausalLM.from_pretrained(job.model_dir, dtype=torch.float32).to(job.device).eval()
    schemes = {}
    for size in sorted(set(job.group_sizes.values())):
        weights = QuantizationArgs(
            num_bits=job.bits,
            type="int",
            symmetric=False,
            strategy="group",
            group_size=size,
            actorder="static" if params.act_order else None,
        )
        names = [name for name in job.linears if job.group_sizes[name] == size]
        schemes[f"groups_of_{size}"] = QuantizationScheme(targets=names, weights=weights)
    recipe = GPTQModifier(config_groups=schemes, dampening_frac=params.damping, block_size=params.block_size)
    tokens = job.tokens.tolist()
    oneshot(
        model=model,
        dataset=Dataset.from_dict({"input_ids": tokens, "attention_mask": [[1] * len(row) for row in tokens]}),
        recipe=recipe,
        max_seq_length=job.tokens.shape[1],
        num_calibration_samples=job.tokens.shape[0],
        shuffle_calibration_samples=False,
    )
    modules = dict(model.named_modules())
    for name in job.linears:
        module = modules[name]
        zeros = module.weight_zero_point.float() + 2 ** (job.bits - 1)
        job.keep_weight(name, module.weight.float(), module.weight_scale.float(), zeros)
    model.save_pretrained(str(job.work_dir), save_compressed=True)
    job.native(*job.work_dir.glob("*.safetensors"))
    job.note("float32 scales rounded to float16")


METHOD = Package(
    title="GPTQ (llmcompressor)",
    source="vllm-project/llm-compressor 0.14.0.1; Frantar et al. 2022, arXiv:2210.17323",
    quantize=quantize,
    params=LlmCompressorParams,
    requirements=("llmcompressor==0.14.0.1", "torch==2.13.0", "transformers==5.17.0"),
    environment="llmcompressor",
    footprint=Footprint(card=4),
)
