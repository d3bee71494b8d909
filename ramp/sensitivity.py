"""Additive sensitivities: what each linear at each width costs, from one backward pass per window.

For a small weight change d the mean KL per token between the float model p and the changed one is
0.5 d^T F d, with F = (1/T) sum_t E_{y ~ p_t}[g_t g_t^T] the Fisher information per token and g_t the gradient of
-log p(y_t). The proxy keeps F's diagonal and takes d from the bank:

    proxy[i, b] = 0.5 * sum_j F_jj d_j^2,    d = bank weights of linear i at b bits - folded float weights

in nats per token, so that the sum over linears predicts the KL that an evaluation measures.

**Scale.** One backward pass per window gives only G = sum_t g_t. Labels being drawn from the model itself,
E[g_t | text before t] = 0, so the cross terms of different tokens vanish: E[G G^T] = sum_t E[g_t g_t^T] = T F.
Hence F_jj is estimated by the mean over windows of G_j^2 / T, T the scored tokens of a window and G the gradient of the
*sum* of their negative log-likelihoods. ``labels="model"`` draws labels (the true Fisher, unbiased); ``labels="text"``
takes the text's next tokens (the "empirical Fisher"; the identity then holds as far as the model predicts the text).
Kunstner et al. 2019 (arXiv:1905.12558) discuss the difference; ``docs/decisions.md`` says what was measured here.

Each gradient is used for all widths and freed inside the backward pass: no F and no second gradient is stored.

JSON: ``proxy`` "fisher", ``labels``, ``windows``, ``length``, ``seed``, ``tokens`` (forward tokens that it cost, a
backward pass counting as two: windows * length * 3), ``linears`` {name: {width: nats per token}}.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ramp import cli
from ramp.bank import RESIDENT_BYTES, Bank
from ramp.calibration import check_windows
from ramp.errors import RampError
from ramp.files import write_json
from ramp.folding import folded_float_model, load_fold
from ramp.models import list_linears, load_tokenizer, pick_device, pick_dtype, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("ramp.sensitivity")

LABELS = ("model", "text")


class SensitivityError(RampError):
    """A bank of another model or fold, or gradients that are not finite."""


def summed_nll(model: PreTrainedModel, window: Tensor, labels: str, generator: torch.Generator) -> Tensor:
    """Sum over the length - 1 scored tokens of -log p(label), a scalar with a graph; window int64 [length]."""
    logits = model(window.unsqueeze(0), use_cache=False).logits[0, :-1].float()  # (length - 1, vocabulary)
    if labels == "text":
        targets = window[1:]
    else:  # on the host, so that a seed means the same labels on every device
        chances = logits.detach().softmax(-1).cpu()
        targets = torch.multinomial(chances, 1, generator=generator)[:, 0].to(window.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


def fisher_proxy(
    model: PreTrainedModel,
    bank: Bank,
    windows: Tensor,
    *,
    labels: str = "model",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The proxy of every linear and width: float64 [n, w], nats per token.

    model: the *folded* float model of the bank, float32 (a bfloat16 weight is itself off by about a 6-bit step).
    windows: int64 [count, length]. Leaves the model as it was. Raises ``SensitivityError`` naming the linear.
    """
    if labels not in LABELS:
        raise SensitivityError(f"unknown labels '{labels}' (known: {', '.join(LABELS)})")
    check_windows(windows, model.config)
    if windows.shape[1] < 2:
        raise SensitivityError("a window of one token scores nothing: use windows of at least two")
    scored = windows.shape[1] - 1
    proxy = np.zeros((len(bank.linears), len(bank.widths)))
    generator = torch.Generator().manual_seed(seed)
    modules: list[Any] = [model.get_submodule(x.name) for x in bank.linears]
    weights: list[Tensor] = [module.weight for module in modules]

    def consume(i: int) -> Callable[[Tensor], None]:
        name = bank.linears[i].name

        def hook(weight: Tensor) -> None:
            gradient, weight.grad = weight.grad, None
            if gradient is None:
                return
            squared = gradient.float().square_()  # (d_out, d_in)
            for a, bits in enumerate(bank.widths):
                if weight.device.type == "cpu":
                    rounded = bank.dequantize(name, bits)
                else:
                    rounded = bank.quantized(name, bits, weight.device).dequantize()
                d = rounded - weight.detach()
                # float64 at the end only: a sum of 10^7 products in float32 keeps five digits by torch's pairwise sum
                proxy[i, a] += 0.5 * float((squared * d.square_()).sum()) / (scored * len(windows))

        return hook

    kept = [p for p in model.parameters() if p.requires_grad]
    handles = []
    bank.keep_resident(RESIDENT_BYTES)
    try:
        for p in kept:
            p.requires_grad_(False)
        for i, weight in enumerate(weights):
            weight.requires_grad_(True)
            handles.append(weight.register_post_accumulate_grad_hook(consume(i)))
        for done, window in enumerate(windows, start=1):
            with torch.enable_grad():
                summed_nll(model, window.to(weights[0].device), labels, generator).backward()
            if progress is not None:
                progress(done, len(windows))
    finally:
        for handle in handles:
            handle.remove()
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None
        for p in kept:
            p.requires_grad_(True)
    bad = np.flatnonzero(~np.isfinite(proxy).all(axis=1))
    if len(bad):
        raise SensitivityError(
            f"the gradient of {bank.linears[bad[0]].name} is NaN or infinite on this text: use --dtype float32"
        )
    unreached = np.flatnonzero((proxy == 0).all(axis=1))
    if len(unreached):
        log.warning("%s: no gradient reached it, its sensitivity is 0", bank.linears[unreached[0]].name)
    return proxy


def report(bank: Bank, proxy: np.ndarray, windows: Tensor, labels: str, seed: int) -> dict[str, Any]:
    """What the sensitivity file holds."""
    count, length = windows.shape
    rows = {
        x.name: {str(bits): float(value) for bits, value in zip(bank.widths, row, strict=True)}
        for x, row in zip(bank.linears, proxy, strict=True)
    }
    return {
        "proxy": "fisher",
        "labels": labels,
        "tokens": 3 * count * length,
        "windows": count,
        "length": length,
        "seed": seed,
        "linears": rows,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the additive sensitivities of one bank."""
    from ramp.text import token_windows

    parser = cli.parser("Diagonal Fisher sensitivity of every linear at every width of a bank.")
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--bank", required=True, help="bank folder of ramp.bank")
    parser.add_argument("--fold", required=True, help="fold file that the bank was built with")
    parser.add_argument("--text", required=True, help="documents, JSON lines; never held-out text")
    parser.add_argument("--windows", type=int, default=8, help="backward passes")
    parser.add_argument("--length", type=int, default=256, help="tokens per window")
    parser.add_argument("--labels", choices=LABELS, default="model", help="drawn from the model, or the text's own")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn labels")
    parser.add_argument("--out", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    config, bank = read_config(args.model_dir), Bank(args.bank)
    if bank.linears != list_linears(config):
        raise SensitivityError(f"the bank {args.bank} belongs to another model than {args.model_dir}")
    if bank.fold != Path(args.fold).stem:
        raise SensitivityError(f"the bank {args.bank} was built with the fold '{bank.fold}', --fold is {args.fold}")
    device = pick_device(args.device)
    dtype = torch.float32 if args.dtype == "auto" else pick_dtype(args.dtype, device)
    model = folded_float_model(args.model_dir, load_fold(args.fold, config), dtype, device)
    windows = token_windows(load_tokenizer(args.model_dir), args.text, length=args.length, count=args.windows)
    proxy = fisher_proxy(
        model,
        bank,
        windows,
        labels=args.labels,
        seed=args.seed,
        progress=lambda done, of: log.info("backward pass %d of %d", done, of),
    )
    write_json(args.out, report(bank, proxy, windows, args.labels, args.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
