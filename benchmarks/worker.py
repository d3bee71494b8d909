"""Runs inside the reference's environment: gptqmodel's own GPTQ class on given linears. Imports nothing of the project.

One JSON line per job on standard input, one per answer on standard output. Job ``gptq``: ``inputs`` is a safetensors
file with ``x`` float32 [tokens, d_in] and ``weight/{role}`` float32 [d_out, d_in]; the answer has processor and wall
seconds of collecting the Hessian and of quantizing, summed over the linears, and ``out`` gets ``{role}``, the
de-quantized weights. Linears of one input share one Hessian and one factorization, as in the package's own loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TextIO


def versions() -> dict[str, Any]:
    """Return versions of the package, torch and numpy."""
    return {"versions": {f"reference {name}": version(name) for name in ("gptqmodel", "torch", "numpy")}}


def gptq(
    inputs: str, out: str, length: int, bits: int, group_size: int, sym: bool, act_order: bool, damping: float
) -> dict[str, Any]:
    """Quantize the linears of one input."""
    import torch
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ, SharedHessianFactorCache
    from safetensors.torch import load_file, save_file

    tensors = load_file(inputs)
    x, found = tensors.pop("x"), {}
    spent = {"hessian_cpu_s": 0.0, "hessian_wall_s": 0.0, "quantize_cpu_s": 0.0, "quantize_wall_s": 0.0}

    def charge(part: str, work: Callable[[], Any]) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        value = work()
        spent[f"{part}_cpu_s"] += time.process_time() - cpu
        spent[f"{part}_wall_s"] += time.perf_counter() - wall
        return value

    tasks: dict[str, Any] = {}
    for key, weight in tensors.items():
        # Static groups are what gives groups a place in memory under desc_act; act_group_aware is a method of its own.
        config = QuantizeConfig(
            bits=bits, group_size=group_size, sym=sym, desc_act=act_order, static_groups=act_order,
            act_group_aware=False, damp_percent=damping,
        )  # fmt: skip
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data = weight
        tasks[key] = GPTQ(linear, config)
        tasks[key].quantizer.configure(perchannel=True)

    def collect() -> None:
        """Collect by one linear; the others of the site take copies and share its factor, as in the package's loop."""
        leader, *followers = tasks.values()
        for batch in x.split(length):
            leader.add_batch(batch.unsqueeze(0), None)
        leader.materialize_global_hessian()
        cache = SharedHessianFactorCache(1, "site")
        for follower in followers:
            follower.adopt_hessian_from(leader)
        for task in tasks.values():
            task.attach_shared_hessian_cache(cache if followers else None)

    with torch.inference_mode():
        charge("hessian", collect)
        for key, task in tasks.items():
            found[key.removeprefix("weight/")] = charge("quantize", task.quantize)[0].float().contiguous().clone()
            task.free()
    save_file(found, out)
    return spent


def answer(line: str) -> dict[str, Any]:
    """Do the job of one line; a failure becomes ``ok: false`` with the last line of its exception."""
    asked = json.loads(line)
    jobs: dict[str, Callable[..., dict[str, Any]]] = {"versions": versions, "gptq": gptq}
    try:
        return {"ok": True, **jobs[asked.pop("job")](**asked)}
    except Exception as error:  # the other side decides what a failure means
        import traceback

        traceback.print_exc(file=sys.stderr)
        return {"ok": False, "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def main(stream: TextIO, out: TextIO) -> None:
    """Answer until the input ends; what the package prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        for line in stream:
            out.write(json.dumps(answer(line)) + "\n")
            out.flush()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Answer jobs of benchmarks.reference.")
    options.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves the library's choice")
    threads = options.parse_args().threads
    if threads:
        import torch as _torch

        _torch.set_num_threads(threads)
    main(sys.stdin, sys.stdout)
