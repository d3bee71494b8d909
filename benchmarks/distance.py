"""Distance of a quantized model from its float model: by linear, by block, and of its predictions.

All three use the float model's own inputs, so that every error belongs to the part that made it:

- *linears*: sum over linears of tr(dW H dW^T) = mean over tokens of |dW x|^2, x from float predecessors. For methods
  that leave the float weights unscaled.
- *blocks*: sum over blocks of the mean squared difference of outputs, both blocks fed the float model's hidden states.
  Whatever a method folds between a block's own parts cancels here, so that methods that scale can be compared.
- *KL*: mean KL(float || quantized) per token on held-out windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ramp.evaluation.heldout import evaluate, float_head, make_reference
from ramp.models.architecture import architecture, list_linears
from ramp.models.folder import ModelFolder

State = Mapping[str, Tensor]
"""Tensors of a model by checkpoint name; those that are absent are the float model's."""


def with_state(model_dir: str | Path, state: State) -> Any:
    """Return the float model with ``state`` in place of its own tensors, float32; KeyError for an unknown name."""
    model = ModelFolder(model_dir).load_float()
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)
    return model


@torch.inference_mode()
def linear_errors(model_dir: str | Path, windows: Tensor, state: State) -> dict[str, float]:
    """Return linear -> mean over tokens of |dW x|^2 on the float model's inputs; windows int64 [count, length]."""
    model = ModelFolder(model_dir).load_float()
    totals = {linear.name: 0.0 for linear in list_linears(model.config)}

    def record(name: str) -> Callable[..., None]:
        module = model.get_submodule(name)
        difference = state[f"{name}.weight"].float() - module.weight  # (d_out, d_in)

        def hook(_: Any, args: tuple[Tensor, ...]) -> None:
            totals[name] += float((args[0] @ difference.T).square().sum(dtype=torch.float64))

        return hook

    for name in totals:
        model.get_submodule(name).register_forward_pre_hook(record(name))
    for window in windows:
        model.base_model(input_ids=window[None], use_cache=False)
    return {name: total / windows.numel() for name, total in totals.items()}


@torch.inference_mode()
def block_errors(model_dir: str | Path, windows: Tensor, state: State) -> list[float]:
    """Return per decoder block: mean over tokens of |difference of outputs|^2, of the float model's hidden states."""
    model, other = ModelFolder(model_dir).load_float(), with_state(model_dir, state)
    path = architecture(model.config).blocks
    totals = [0.0] * model.config.num_hidden_layers

    def record(layer: int) -> Callable[..., None]:
        rival = other.get_submodule(f"{path}.{layer}")

        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            found = rival(*args, **kwargs)
            pair = [each[0] if isinstance(each, tuple) else each for each in (found, out)]
            totals[layer] += float((pair[0] - pair[1]).square().sum(dtype=torch.float64))

        return hook

    for layer in range(len(totals)):
        model.get_submodule(f"{path}.{layer}").register_forward_hook(record(layer), with_kwargs=True)
    for window in windows:
        model.base_model(input_ids=window[None], use_cache=False)
    return [total / windows.numel() for total in totals]


def kl_of(model_dir: str | Path, windows: Tensor, states: Mapping[str, State]) -> dict[str, float]:
    """Return the mean KL(float || state) per predicted token, float32, for each state on the same windows."""
    reference = make_reference(ModelFolder(model_dir).load_float(), windows, {})
    head = float_head(model_dir, torch.float32, torch.device("cpu"))
    found = {}
    for name, state in states.items():
        sums = evaluate(with_state(model_dir, state), reference, head)
        found[name] = sum(each["kl"] for each in sums) / sum(each["tokens"] for each in sums)
    return found
