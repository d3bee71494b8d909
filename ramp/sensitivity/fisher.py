"""Fisher sensitivities: the KL that each linear at each width costs, from one backward pass per window.

For a small weight change d the mean KL per token between the float model p and the changed one is

    KL = 0.5 d^T F d,   F = (1/T) sum_s E_{y ~ p_s}[g_s g_s^T],   g_s = gradient of -log p(y_s)

with F the Fisher information per token and d = bank weights of one linear at one width - folded float weights. Linears
are taken one by one (F block-diagonal over linears), so that predictions add up. One backward pass per window gives the
gradient of the *sum* over its T scored tokens, G = sum_s g_s. Labels being drawn from the model itself,
E[g_s | text before s] = 0, the cross terms of different tokens vanish and E[G G^T] = T F: dividing by T, not T^2, is
what makes the proxy nats per token. Two estimators of d^T F d:

* ``positions`` (default): the linear's output at position t being y_t = W x_t, G = sum_t delta_t x_t^T with delta_t the
  gradient at its output, so d . G = sum_t delta_t . (d x_t). With positions taken as independent,
  d^T F d = (1/T) sum_t (delta_t . (d x_t))^2. It sees how rounding errors of a row cancel on real inputs, as GPTQ's do
  by design; K-FAC (Martens and Grosse 2015, arXiv:1503.05671) also splits delta from x, here they stay together.
* ``diagonal``: sum_j F_jj d_j^2 with F_jj = G_j^2 / T, blind to such cancellation: good for RTN banks only.

``labels="model"`` draws labels (the true Fisher, unbiased scale); ``"text"`` takes the text's next tokens (the
empirical Fisher: right as far as the model predicts the text; see Kunstner et al. 2019, arXiv:1905.12558).
Measurements behind the defaults: docs/decisions.md.

JSON: ``proxy`` "fisher", ``estimator``, ``labels``, ``windows``, ``length``, ``seed``, ``tokens`` (cost in forward
tokens: 3 per token, a backward pass counting as two, and for ``positions`` one more per width, since every d is
multiplied with every input), ``linears`` {name: {width: nats per token}}.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ramp.bank.bank import RESIDENT_BYTES, Bank
from ramp.calibration.windows import check_windows
from ramp.core.errors import RampError
from ramp.quantizers.widths import Width
from ramp.sensitivity.one_linear import by_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger("ramp.sensitivity.fisher")


LABELS = ("model", "text")


class SensitivityError(RampError):
    """An unknown estimator, windows that score nothing, or gradients that are not finite."""


def summed_nll(model: PreTrainedModel, window: Tensor, labels: str, generator: torch.Generator) -> Tensor:
    """Return the sum over length - 1 scored tokens of -log p(label), a scalar with a graph; window int64 [length]."""
    logits = model(window.unsqueeze(0), use_cache=False).logits[0, :-1].float()  # (length - 1, vocabulary)
    if labels == "text":
        targets = window[1:]
    else:  # on the host, so that a seed means the same labels on every device
        chances = logits.detach().softmax(-1).cpu()
        targets = torch.multinomial(chances, 1, generator=generator)[:, 0].to(window.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


Add = Callable[[int, int, float], None]
"""(index of the linear, index of the width, sum of squares over one window)"""


def difference(bank: Bank, i: int, width: Width, weight: Tensor) -> Tensor:
    """Return d of linear i at one width: float32 [d_out, d_in], on the weight's device."""
    return bank.dequantize(bank.linears[i].name, width, device=weight.device) - weight.detach()


@contextmanager
def positions_hooked(model: PreTrainedModel, bank: Bank, add: Add) -> Iterator[None]:
    """Let every backward pass add sum_t (delta_t . (d x_t))^2 of each linear and width, until the block ends.

    No weight needs a gradient: the graph starts at the embedding's output.
    """
    modules: list[Any] = [model.get_submodule(x.name) for x in bank.linears]

    def after_forward(i: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            x = args[0].detach()  # (1, length, d_in)

            def at_gradient(delta: Tensor) -> None:  # (1, length, d_out)
                with torch.no_grad():
                    rows, slopes = x[0].float(), delta[0].float()
                    for a, width in enumerate(bank.widths):
                        moved = rows @ difference(bank, i, width, modules[i].weight).T  # (length, d_out)
                        add(i, a, float(moved.mul_(slopes).sum(-1).square_().sum()))

            output.register_hook(at_gradient)

        return hook

    def start_graph(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.requires_grad_(True)

    with ExitStack() as hooks:
        for i, module in enumerate(modules):
            hooks.callback(module.register_forward_hook(after_forward(i)).remove)
        hooks.callback(model.get_input_embeddings().register_forward_hook(start_graph).remove)
        yield


@contextmanager
def diagonal_hooked(model: PreTrainedModel, bank: Bank, add: Add) -> Iterator[None]:
    """Let every backward pass add sum_j G_j^2 d_j^2 of each linear and width, until the block ends.

    Each gradient is used for all widths and freed inside the backward pass: none is stored.
    """
    modules: list[Any] = [model.get_submodule(x.name) for x in bank.linears]

    def consume(i: int) -> Callable[[Tensor], None]:
        def hook(weight: Tensor) -> None:
            gradient, weight.grad = weight.grad, None
            if gradient is None:
                return
            squared = gradient.float().square_()  # (d_out, d_in)
            for a, width in enumerate(bank.widths):
                add(i, a, float((squared * difference(bank, i, width, weight).square_()).sum()))

        return hook

    def restore(weight: Tensor) -> None:
        weight.requires_grad_(False).grad = None

    with ExitStack() as hooks:
        for i, module in enumerate(modules):
            hooks.callback(restore, module.weight.requires_grad_(True))
            hooks.callback(module.weight.register_post_accumulate_grad_hook(consume(i)).remove)
        yield


ESTIMATORS = {"positions": positions_hooked, "diagonal": diagonal_hooked}


def fisher_proxy(
    model: PreTrainedModel,
    bank: Bank,
    windows: Tensor,
    *,
    estimator: str = "positions",
    labels: str = "model",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return the sensitivity of every linear and width: float64 [n, w], nats per token.

    model: the *folded* float model of the bank, without gradients, float32 (a bfloat16 weight is itself off by about a
    6-bit step). windows: int64 [count, length]. Leaves the model as it was. Raises ``SensitivityError``.
    """
    if labels not in LABELS or estimator not in ESTIMATORS:
        known = f"labels: {', '.join(LABELS)}; estimators: {', '.join(ESTIMATORS)}"
        raise SensitivityError(f"unknown labels '{labels}' or estimator '{estimator}' ({known})")
    check_windows(windows, model.config)
    if windows.shape[1] < 2:
        raise SensitivityError("a window of one token scores nothing: use windows of at least two")
    proxy = np.zeros((len(bank.linears), len(bank.widths)))
    scored = len(windows) * (windows.shape[1] - 1)
    generator = torch.Generator().manual_seed(seed)

    def add(i: int, a: int, squares: float) -> None:
        proxy[i, a] += 0.5 * squares / scored

    bank.keep_resident(RESIDENT_BYTES)
    device = model.get_input_embeddings().weight.device
    with ESTIMATORS[estimator](model, bank, add), torch.enable_grad():
        for done, window in enumerate(windows, start=1):
            summed_nll(model, window.to(device), labels, generator).backward()
            if progress is not None:
                progress(done, len(windows))
    bad = np.flatnonzero(~np.isfinite(proxy).all(axis=1))
    if len(bad):
        name = bank.linears[bad[0]].name
        raise SensitivityError(f"the gradient of {name} is NaN or infinite on this text: use --dtype float32")
    unreached = np.flatnonzero((proxy == 0).all(axis=1))
    if len(unreached):
        log.warning("%s: no gradient reached it, its sensitivity is 0", bank.linears[unreached[0]].name)
    return proxy


def forward_tokens(windows: Tensor, n_widths: int, estimator: str) -> int:
    """Return the cost in forward tokens (see the module's docstring)."""
    return windows.numel() * (3 + (n_widths if estimator == "positions" else 0))


def report(bank: Bank, proxy: np.ndarray, windows: Tensor, estimator: str, labels: str, seed: int) -> dict[str, Any]:
    """Return the content of the sensitivity file."""
    count, length = windows.shape
    return {
        "proxy": "fisher",
        "estimator": estimator,
        "labels": labels,
        "tokens": forward_tokens(windows, len(bank.widths), estimator),
        "windows": count,
        "length": length,
        "seed": seed,
        "linears": by_name(bank, proxy),
    }
