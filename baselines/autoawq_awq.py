"""AWQ by autoawq 0.2.9, which its authors no longer maintain: its environment is frozen.

It searches scales and clips, folds the scales into norms and preceding linears, and packs 4-bit codes eight to a word,
interleaved. So linears are handed over in the folded space, and every other tensor that it changed with them.

On a CPU its scale search needs a shim: it restores weights from ``state_dict()`` after ``.cpu()``, which copies from a
GPU but not on a CPU, so that each candidate's scale would stay multiplied in.
"""

import platform
import sys
from typing import Any
from unittest.mock import patch

from pydantic import Field

from ramp.methods.kinds import Footprint, Package, Params
from ramp.methods.package_job import PackageError, PackageJob
from ramp.quantizers.packed_formats import unpack_awq


class AutoAwqParams(Params):
    """Options of autoawq."""

    clip: bool = Field(default=True, description="apply_clip: search a clip of each group's range")
    duo_scaling: bool = Field(default=True, description="scales from activations and weights, not activations alone")
    batch: int = Field(default=4, gt=0, description="calibration windows at a time")


def skip() -> str | None:
    """Return why it cannot run: it imports triton, which has wheels for Linux only."""
    return None if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") else "no triton here"


def quantize(job: PackageJob, params: AutoAwqParams) -> None:
    """Run AWQ's search on float16 weights, as in the package; group sizes as in our own methods."""
    import torch
    from awq import AutoAWQForCausalLM
    from awq.quantize.quantizer import AwqQuantizer

    for name, (d_out, _) in job.linears.items():
        if params.clip and d_out % 64:
            raise PackageError(f"its clip search takes 64 output rows at a time, {name} has {d_out}: set clip to false")
    group_of_row = {d_in: job.group_sizes[name] for name, (_, d_in) in job.linears.items()}

    class ByRow(AwqQuantizer):
        """The package's class with the group size of every row; its own has one for the whole model."""

        def pseudo_quantize_tensor(self, w: Any) -> Any:
            self.group_size = group_of_row.get(w.shape[-1], self.group_size)  # the clip search passes single groups
            return super().pseudo_quantize_tensor(w)

        def _search_best_scale(self, module: Any, prev_op: Any, layers: Any, *args: Any, **kwargs: Any) -> Any:
            self.group_size = group_of_row[layers[0].in_features]
            return super()._search_best_scale(module, prev_op, layers, *args, **kwargs)

        def _compute_best_scale(self, x: Any, w_mean: Any, x_mean: Any, inspected: Any, *args: Any) -> Any:
            state = inspected.state_dict
            with patch.object(inspected, "state_dict", lambda: {key: one.clone() for key, one in state().items()}):
                return super()._compute_best_scale(x, w_mean, x_mean, inspected, *args)

        def _compute_best_clip(self, w: Any, *args: Any, **kwargs: Any) -> Any:
            self.group_size = group_of_row[w.shape[-1]]
            return super()._compute_best_clip(w, *args, **kwargs)

        def _apply_quant(self, module: Any, named_linears: dict[str, Any]) -> None:
            for name, linear in named_linears.items():
                self.group_size = group_of_row[linear.in_features]
                super()._apply_quant(module, {name: linear})

    torch.manual_seed(job.seed)
    count, length = job.tokens.shape
    package = AutoAWQForCausalLM.from_pretrained(str(job.model_dir), device_map=job.device, safetensors=True)
    before = {name: tensor.to("cpu", copy=True) for name, tensor in package.model.state_dict().items()}
    package.quantize(
        tokenizer=None,
        quant_config={"zero_point": True, "q_group_size": job.group_size, "w_bit": job.bits, "version": "GEMM"},
        calib_data=job.tokens.tolist(),
        max_calib_samples=count,
        max_calib_seq_len=length,
        n_parallel_calib_samples=params.batch,
        apply_clip=params.clip,
        duo_scaling=params.duo_scaling,
        quantizer_cls=ByRow,
    )
    after = package.model.state_dict()
    for name in job.linears:
        packed = (after[f"{name}.{part}"].cpu().numpy() for part in ("qweight", "qzeros", "scales"))
        job.keep(name, *unpack_awq(*packed), job.group_sizes[name])
    for name in after.keys() & before.keys():
        if not torch.equal(before[name], after[name].cpu()):
            job.keep_other(name, after[name])
    package.save_quantized(str(job.work_dir))
    job.native(*job.work_dir.glob("*.safetensors"))
    job.note("CPU shim: scales are searched on copies of the weights" if job.device == "cpu" else "")
    job.note("its quantizer class is overridden: every row's own group size")
    job.note("quantized from float16 weights")
    job.note(f"scales from activations {'and weights (duo scaling)' if params.duo_scaling else 'alone'}")


METHOD = Package(
    title="AWQ (autoawq)",
    source="casper-hansen/AutoAWQ 0.2.9; Lin et al. 2023, arXiv:2306.00978",
    quantize=quantize,
    params=AutoAwqParams,
    requirements=("autoawq==0.2.9", "torch==2.13.0", "transformers==5.23.0"),
    bits=(4,),
    environment="autoawq",
    skip=skip,
    footprint=Footprint(host=2, card=2, inputs=True),
)
