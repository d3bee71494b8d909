"""A model without weights: shapes from the configuration, memory for nothing but buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def set_parameter(model: PreTrainedModel, name: str, value: Tensor) -> None:
    """Put ``value`` in the place of the parameter ``name`` (``model.norm.weight``), without gradients."""
    from torch import nn

    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
