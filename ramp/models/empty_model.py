"""A model without weights: shapes from the configuration, memory for nothing but buffers; and one filled by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ramp.models.architecture import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel


def empty_model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model of ``dtype`` whose parameters are on the meta device and whose buffers are real, on the host.

    Buffers hold what no checkpoint stores: the frequencies of the rotary embedding. The model is in evaluation mode,
    without gradients, attention by SDPA.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.tie_weights()  # moving the parameters to the meta device untied them
    return model.eval().requires_grad_(False)


def filled_model(
    config: PretrainedConfig, dtype: torch.dtype, device: torch.device, read: Callable[[str], Tensor]
) -> PreTrainedModel:
    """Return ``empty_model`` on ``device`` with ``read(name)`` in the place of every parameter, of ``dtype``.

    A tied head is not read. Raises ``ModelError`` where a tensor has another shape than its parameter.
    """
    return fill(empty_model(config, dtype), dtype, device, read)


def fill(
    model: PreTrainedModel, dtype: torch.dtype, device: torch.device, read: Callable[[str], Tensor]
) -> PreTrainedModel:
    """Give every parameter of a model that has no memory yet ``read(name)``; return the model, without gradients."""
    from torch import nn

    for name, parameter in list(model.named_parameters()):
        if not parameter.is_meta:
            continue
        value = read(name)
        if value.shape != parameter.shape:
            raise ModelError(f"{name} is {list(value.shape)}, the model's configuration says {list(parameter.shape)}")
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(value.to(device, dtype), requires_grad=False))
    model.tie_weights()
    nn.Module.to(model, device)  # the buffers
    return model.eval()
