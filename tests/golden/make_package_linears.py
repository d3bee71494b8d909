"""Make package_linears.npz: small linears of a real model as gptqmodel and autoawq quantize them.

    python tests/golden/make_package_linears.py --model-dir results/models/smollm2-135m \\
        --text results/texts/calibration.jsonl --gptqmodel .envs/gptqmodel/bin/python --autoawq .envs/autoawq/bin/python

from the repository's root, where ``snakemake --cores all parity`` makes all four on its way.
tests/unit/test_package_goldens.py reads the file and needs none of them.

Inputs: of three linears of SmolLM2-135M (Apache-2.0) the first 64 rows and 128 neighbouring input channels, those with
the largest channel among them, and what these channels were on every ninth of 2,048 calibration tokens. Both are
rounded to few significant bits, for the file's sake; the rounded numbers are the inputs of all sides.
layers.28.mlp.down_proj is there for its massive activations.

Packages and settings: gptqmodel 7.6.0's ``GPTQ`` class as its own loop calls it, damping 0.01, ``desc_act`` and
``act_group_aware`` off. autoawq 0.2.9's ``AwqQuantizer``, its own steps in its own order on one linear: scale search by
that linear's output, with duo scaling (its default) and without (ours), clip search on the scaled inputs, rounding on
asymmetric grids.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).with_name("package_linears.npz")
LINEARS = ("model.layers.10.self_attn.v_proj", "model.layers.20.mlp.up_proj", "model.layers.28.mlp.down_proj")
ROWS, CHANNELS = 64, 128
WINDOWS, LENGTH, EVERY = 4, 512, 9
CASES = ((3, 32), (4, 64))
"""(bits, group size)."""
DAMPING = 0.01
WEIGHT_BITS, ACTIVATION_BITS = 8, 5
"""Significant bits that inputs are rounded to."""


def coarse(x: np.ndarray, bits: int) -> np.ndarray:
    """float16 with ``bits`` significant bits: fewer bytes when packed."""
    mantissa, exponent = np.frexp(x.astype(np.float32))
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype(np.float16)


def make_inputs(model_dir: Path, text: Path) -> dict[str, np.ndarray]:
    """``{linear}/weight`` float16 [64, 128], ``{linear}/x`` float16 [228, 128]; needs the project's environment."""
    import torch

    from ramp.models.token_windows import token_windows
    from tests.model_folders import load_float, load_tokenizer

    model, seen = load_float(model_dir), {name: [] for name in LINEARS}
    for name, inputs in seen.items():
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, into=inputs: into.append(args[0][0]))
    with torch.inference_mode():
        for window in token_windows(load_tokenizer(model_dir), text, length=LENGTH, count=WINDOWS):
            model.base_model(input_ids=window[None], use_cache=False)
    found: dict[str, np.ndarray] = {}
    for name, inputs in seen.items():
        x = torch.cat(inputs)[::EVERY].numpy()
        start = CHANNELS * (int(np.abs(x).max(0).argmax()) // CHANNELS)
        start = min(start, x.shape[1] - CHANNELS)
        columns = slice(start, start + CHANNELS)
        weight = model.get_submodule(name).weight.detach()[:ROWS, columns].numpy()
        found[f"{name}/weight"], found[f"{name}/x"] = (
            coarse(weight, WEIGHT_BITS),
            coarse(x[:, columns], ACTIVATION_BITS),
        )
    return found


def as_codes(weight: Any, scales: Any, zeros: Any, group: int) -> dict[str, np.ndarray]:
    """Codes uint8 of de-quantized weights [d_out, d_in] on their grid, scales float32 and zeros [d_out, n_groups]."""
    import torch

    grouped = weight.double().reshape(weight.shape[0], -1, group)
    codes = torch.round(grouped / scales.double().unsqueeze(-1)) + zeros.double().unsqueeze(-1)
    back = ((codes - zeros.unsqueeze(-1)) * scales.double().unsqueeze(-1) - grouped).abs().max()
    if float(back) > 1e-5 * float(weight.abs().max()) or float(codes.min()) < 0:
        raise SystemExit(f"the package's weights are off their own grid by {float(back):.3g}")
    arrays = {"codes": codes.reshape(weight.shape).to(torch.uint8), "scales": scales.float(), "zeros": zeros.byte()}
    return {key: each.numpy() for key, each in arrays.items()}


def run_gptq(weight: Any, x: Any) -> dict[str, np.ndarray]:
    """All cases by gptqmodel, on both grids: ``gptq/{bits}-{group}-{grid}/{part}``."""
    import torch
    from gptqmodel.quantization import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    found: dict[str, np.ndarray] = {}
    for bits, group in CASES:
        for grid in ("asym", "sym"):
            config = QuantizeConfig(
                bits=bits, group_size=group, sym=grid == "sym", desc_act=False, act_group_aware=False,
                damp_percent=DAMPING,
            )  # fmt: skip
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight.data = weight.clone()
            task = GPTQ(linear, config)
            task.quantizer.configure(perchannel=True)
            task.add_batch(x.unsqueeze(0), None)
            made, scales, zeros, *_ = task.quantize()
            parts = as_codes(made.float(), scales.float(), zeros.float(), group)
            found |= {f"gptq/{bits}-{group}-{grid}/{part}": each for part, each in parts.items()}
    return found


def run_awq(weight: Any, x: Any) -> dict[str, np.ndarray]:
    """All cases by autoawq: ``awq/{bits}-{group}-asym/{part}``, its ``fold`` float32 [d_in]; ``awq_duo`` likewise."""
    import torch
    from awq.quantize.quantizer import AwqQuantizer

    found: dict[str, np.ndarray] = {}
    for (bits, group), duo in itertools.product(CASES, (False, True)):
        package: Any = AwqQuantizer.__new__(AwqQuantizer)  # its constructor loads a model and a data set
        package.w_bit, package.group_size, package.zero_point = bits, group, True
        package.duo_scaling, package.n_parallel_calib_samples, package.max_chunk_memory = duo, None, 1 << 30
        block = torch.nn.ModuleDict(
            {"norm": torch.nn.LayerNorm(x.shape[1]), "linear": torch.nn.Linear(*weight.T.shape)}
        )
        block["linear"].bias = None
        block["linear"].weight.data = weight.clone()
        # as baselines/autoawq_awq.py: on a processor its saved state is the very memory that it overwrites
        state = block["linear"].state_dict
        block["linear"].state_dict = lambda state=state: {key: one.clone() for key, one in state().items()}
        _, _, fold = package._search_best_scale(block, block["norm"], [block["linear"]], x.clone())
        scaled = weight * fold
        tops = package._compute_best_clip(scaled, x / fold).reshape(len(weight), -1, 1)
        clipped = scaled.reshape(len(weight), -1, group).clamp(-tops, tops).reshape(weight.shape)
        parts = as_codes(*package.pseudo_quantize_tensor(clipped), group)
        parts["fold"] = fold.float().numpy()
        method = "awq_duo" if duo else "awq"
        found |= {f"{method}/{bits}-{group}-asym/{part}": each for part, each in parts.items()}
    return found


def inner(package: str, source: Path, out: Path) -> None:
    """One package on all linears; runs in that package's environment and imports nothing of the project."""
    import torch

    torch.set_num_threads(1)
    given, found = np.load(source), {}
    for name in LINEARS:
        weight, x = (torch.from_numpy(given[f"{name}/{part}"]).float() for part in ("weight", "x"))
        with torch.inference_mode(package == "gptqmodel"), torch.no_grad():
            made = run_gptq(weight, x) if package == "gptqmodel" else run_awq(weight, x)
        found |= {f"{name}/{key}": each for key, each in made.items()}
    np.savez(out, **found)


def main() -> None:
    """Inputs in this interpreter, each package in its own, all into one file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model-dir", type=Path, help="folder of smollm2-135m")
    options.add_argument("--text", type=Path, help="calibration documents, JSON lines")
    options.add_argument("--gptqmodel", help="interpreter of its environment")
    options.add_argument("--autoawq", help="interpreter of its environment")
    options.add_argument("--inner", nargs=3, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.inner:
        inner(args.inner[0], Path(args.inner[1]), Path(args.inner[2]))
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    arrays = make_inputs(args.model_dir, args.text)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "inputs.npz"
        np.savez(source, **arrays)
        for package in ("gptqmodel", "autoawq"):
            out = Path(temporary) / f"{package}.npz"
            command = [getattr(args, package), __file__, "--inner", package, str(source), str(out)]
            subprocess.run(command, check=True)
            arrays |= dict(np.load(out))
    np.savez_compressed(OUT, **dict(sorted(arrays.items())))


if __name__ == "__main__":
    main()
