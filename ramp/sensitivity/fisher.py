"""Fisher sensitivities: the KL that each linear at each width costs, from one backward pass per window.

For a small weight change d the mean KL per token between the float model p and the changed one is

    KL = 0.5 d^T F d,   F = (1/T) sum_s E_{y ~ p_s}[g_s g_s^T],   g_s = gradient of -log p(y_s)

with F the Fisher information per token and d = bank weights of one linear at one width - folded float weights. Linears
are taken one by one (F block-diagonal over linears), so that predictions add up. One backward pass per window gives the
gradient of the *sum* over its T scored tokens, G = sum_s g_s. Labels being drawn from the model itself,
E[g_s | text before s] = 0, the cross terms of different tokens vanish and E[G G^T] = T F: dividing by T, not T^2, is
what makes the proxy nats per token. (The text's own next tokens as labels give the empirical Fisher instead, right only
as far as the model predicts the text: Kunstner et al. 2019, arXiv:1905.12558.)

d^T F d is summed over positions: the linear's output at position t being y_t = W x_t, G = sum_t delta_t x_t^T with
delta_t the gradient at its output, so d . G = sum_t delta_t . (d x_t). With positions taken as independent, d^T F d =
(1/T) sum_t (delta_t . (d x_t))^2. It sees how rounding errors of a row cancel on real inputs, as GPTQ's do by design,
which F's diagonal does not; K-FAC (Martens and Grosse 2015, arXiv:1503.05671) also splits delta from x, here they stay
together. Measurements: docs/decisions.md.

The cost in forward tokens is 3 per token, a backward pass counting as two, and one more per width, since every d is
multiplied with every input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ramp.bank.bank import Bank
from ramp.models.token_windows import check_windows
from ramp.sensitivity.setting import SensitivityError, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


log = logging.getLogger("ramp.sensitivity.fisher")


def summed_nll(model: PreTrainedModel, window: Tensor, generator: torch.Generator) -> Tensor:
    """Return the sum of -log p(label) over length - 1 tokens, labels drawn from p; window int64 [length].

    The scalar has a graph.
    """
    logits = model(window.unsqueeze(0), use_cache=False).logits[0, :-1].float()  # (length - 1, vocabulary)
    if not bool(torch.isfinite(logits).all()):
        raise SensitivityError("the float model's logits are NaN or infinite on this text: use --dtype float32")
    chances = logits.detach().softmax(-1).cpu()  # on the host, so that a seed means the same labels on every device
    targets = torch.multinomial(chances, 1, generator=generator)[:, 0].to(window.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


Add = Callable[[int, int, float], None]
"""(index of the linear, index of the width, sum of squares over one window)"""


@contextmanager
def hooked(model: PreTrainedModel, bank: Bank, add: Add) -> Iterator[None]:
    """Let every backward pass add sum_t (delta_t . (d x_t))^2 of each linear and width, until the block ends.

    No weight needs a gradient: the graph starts at the embedding's output.
    """
    modules: list[Any] = [model.get_submodule(x.name) for x in bank.linears]

    def after_forward(i: int) -> Callable[..., None]:
        def hook(module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
            x, weight = args[0].detach(), module.weight.detach()  # (1, length, d_in), (d_out, d_in)

            def at_gradient(delta: Tensor) -> None:  # (1, length, d_out)
                with torch.no_grad():
                    rows, slopes = x[0].float(), delta[0].float()
                    for a, width in enumerate(bank.widths):
                        d = bank.dequantize(bank.linears[i].name, width, device=weight.device) - weight
                        add(i, a, float((rows @ d.T).mul_(slopes).sum(-1).square_().sum()))

            output.register_hook(at_gradient)

        return hook

    def start_graph(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.requires_grad_(True)

    with ExitStack() as hooks:
        for i, module in enumerate(modules):
            hooks.callback(module.register_forward_hook(after_forward(i)).remove)
        hooks.callback(model.get_input_embeddings().register_forward_hook(start_graph).remove)
        yield


def fisher_proxy(model: PreTrainedModel, bank: Bank, windows: Tensor, *, seed: int = 0) -> np.ndarray:
    """Return the sensitivity of every linear and width: float64 [n, w], nats per token.

    model: the *folded* float model of the bank, without gradients, float32 (a bfloat16 weight is itself off by about a
    6-bit step). windows: int64 [count, length]. Leaves the model as it was. Raises ``SensitivityError`` and
    ``TextError``.
    """
    check_windows(windows, model.config, least=2)
    proxy = np.zeros((len(bank.linears), len(bank.widths)))
    scored = len(windows) * (windows.shape[1] - 1)
    generator = torch.Generator().manual_seed(seed)

    def add(i: int, a: int, squares: float) -> None:
        proxy[i, a] += 0.5 * squares / scored

    device = model.get_input_embeddings().weight.device
    with hooked(model, bank, add), torch.enable_grad():
        for done, window in enumerate(windows, start=1):
            summed_nll(model, window.to(device), generator).backward()
            log.info("backward pass %d of %d", done, len(windows))
    bad = np.flatnonzero(~np.isfinite(proxy).all(axis=1))
    if len(bad):
        name = bank.linears[bad[0]].name
        raise SensitivityError(f"the gradient of {name} is NaN or infinite on this text: use --dtype float32")
    unreached = np.flatnonzero((proxy == 0).all(axis=1))
    if len(unreached):
        log.warning("%s: no gradient reached it, its sensitivity is 0", bank.linears[unreached[0]].name)
    return proxy


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of Fisher sensitivities."""
    proxy = fisher_proxy(setting.model, setting.bank, setting.windows, seed=setting.seed)
    tokens = setting.windows.numel() * (3 + len(setting.bank.widths))
    return setting.report(kind, proxy, tokens, estimator="positions", labels="model", seed=setting.seed)
