"""Scale Folding: move per-channel scales between tensors; the float function does not change.

With s > 0 per input channel of a site, the weights that read the site are multiplied by s column by column, and what
produces the site's activations is divided by s. Weights become easier or harder to round; the output does not move.

| site | divided by s | multiplied by s (columns) |
| --- | --- | --- |
| attn_in | gain of the norm before attention | q, k, v |
| o_in | rows of v and its bias | o |
| mlp_in | gain of the norm before the MLP | gate, up |
| down_in | rows of up and its bias | down |

Never through gate: SiLU is not homogeneous. Biases of q, k, gate, down and o stay. With grouped heads o_in's scales
live per key/value channel and are repeated over the query heads of each group (``repeat_interleave``, never a tiling).
``ramp.calibration.fold_search`` finds the scales.

A fold file is safetensors with ``{site}`` float32 [d_in] each, ``o_in`` already repeated; an absent site means ones.
Its metadata key ``ramp`` is JSON: kind, bits, group_size, tokens, powers_of_two, errors per site, and sym and
duo of AWQ, alpha of SmoothQuant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ramp.core.errors import RampError
from ramp.core.tensors import load_tensors
from ramp.models.architecture import SITES, architecture, head_dim, list_linears
from ramp.models.block_runner import Change, load_block
from ramp.models.empty_model import empty_model
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


PRODUCERS = {"attn_in": "attn_norm", "o_in": "v", "mlp_in": "mlp_norm", "down_in": "up"}
"""The tensor that is divided: a norm (by its field in ``Architecture``) or the rows of a linear (by its role)."""


class FoldingError(RampError):
    """Scales that do not belong to this model, or that would change its function."""


Fold = Mapping[str, Tensor]
"""site -> s, float [d_in]."""


def kv_scales(s: Tensor, config: PretrainedConfig) -> Tensor:
    """Return the per-key/value-channel scales [kv_heads * head_dim] of o_in's repeated ones [heads * head_dim].

    Query head h reads key/value head h // (heads / kv_heads). Raises ``FoldingError`` where query heads of one
    group disagree: such scales cannot be divided out of v.
    """
    heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, head_dim(config)
    grouped = s.view(kv_heads, heads // kv_heads, width)
    if not torch.equal(grouped, grouped[:, :1].expand_as(grouped)):
        raise FoldingError(
            f"scales of o_in differ between query heads of one group ({heads} heads on {kv_heads}): "
            "they must be per key/value channel, repeated over each group's query heads"
        )
    return grouped[:, 0].reshape(-1)


def check_fold(fold: Fold, config: PretrainedConfig) -> None:
    """Raise ``FoldingError`` unless every entry is a site of this model with finite, positive scales of its width."""
    widths = {linear.site: linear.d_in for linear in list_linears(config)}
    for site, s in fold.items():
        if site not in widths:
            raise FoldingError(
                f"the fold has a site '{site}' that this model lacks (it has, for instance, '{next(iter(widths))}'): "
                "give a fold that was searched on this model"
            )
        if s.shape != (widths[site],):
            raise FoldingError(
                f"scales of {site} have shape {list(s.shape)}, the model wants [{widths[site]}]: give its own fold"
            )
        if not bool(((s > 0) & torch.isfinite(s)).all()):
            raise FoldingError(f"scales of {site} are not all positive and finite: write the fold again")
        if site.endswith(".o_in"):
            kv_scales(s, config)


def apply_fold(state: dict[str, Tensor], fold: Fold, config: PretrainedConfig) -> None:
    """Fold a state dict in place (its entries are replaced, never written into): a whole model or one block.

    state: full tensor names (``model.layers.3.mlp.up_proj.weight``), any float dtype. Exact up to rounding of that
    dtype; with powers of two exact to the bit in float32 and bfloat16. A site without any tensor in
    ``state`` is skipped; a site with only some of them is an error, since half a fold changes the function.
    """
    check_fold(fold, config)
    arch = architecture(config)
    linears = list_linears(config)
    names = {(linear.site, linear.role): linear.name for linear in linears}
    blocks = {linear.site: f"{arch.blocks}.{linear.layer}" for linear in linears}
    paths = dict(arch.linears)

    def change(name: str, operation: Callable[[Tensor, Tensor], Tensor], s: Tensor) -> None:
        old = state[name]
        wide = torch.promote_types(old.dtype, torch.float32)
        state[name] = operation(old.to(wide), s.to(old.device, wide)).to(old.dtype)

    for site, s in fold.items():
        kind, block = site.rpartition(".")[2], blocks[site]
        readers = [f"{names[site, role]}.weight" for role, of in SITES.items() if of == kind]
        norm = {"attn_norm": arch.attn_norm, "mlp_norm": arch.mlp_norm}.get(PRODUCERS[kind])
        producer = f"{block}.{norm or paths[PRODUCERS[kind]]}"
        needed = [f"{producer}.weight", *readers]
        missing = [name for name in needed if name not in state]
        if len(missing) == len(needed):
            continue
        if missing:
            raise FoldingError(f"cannot fold {site}: {missing[0]} is not among the tensors, the rest of the fold is")
        for name in readers:  # [d_out, d_in]: columns
            change(name, torch.mul, s)
        if norm:  # g <- g / s; the linears' own biases do not pass through the norm and stay
            change(f"{producer}.weight", torch.div, s)
            continue
        rows = kv_scales(s, config) if kind == "o_in" else s
        change(f"{producer}.weight", torch.div, rows.unsqueeze(1))
        if f"{producer}.bias" in state:
            change(f"{producer}.bias", torch.div, rows)


def folding(fold: Fold | None, config: PretrainedConfig) -> Change | None:
    """Return ``apply_fold`` as a change of a block's tensors; None where there is nothing to fold."""
    return partial(apply_fold, fold=fold, config=config) if fold else None


def fold_digest(fold: Fold) -> str:
    """Return the sha256 of a fold's scales, whatever file they come from."""
    digest = hashlib.sha256()
    for site, scales in sorted(fold.items()):
        digest.update(f"{site} {list(scales.shape)} ".encode())
        digest.update(scales.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_fold(path: str | Path, config: PretrainedConfig) -> dict[str, Tensor]:
    """Read and check a fold file: site -> float32 [d_in]; empty for ``none``."""
    fold = load_tensors(path, "fold", again="run ramp.calibration.fold_search again")
    try:
        check_fold(fold, config)
    except FoldingError as error:
        raise FoldingError(f"{path}: {error}") from None
    return fold


@torch.no_grad()
def folded_float_model(
    model_dir: str | Path, fold: Fold, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Return the float model with a fold in its weights: the same function, the weights that are then quantized.

    Folded block by block in float32 (or wider) and then stored as ``dtype``, so that the peak is the model in
    ``dtype`` and one block. Evaluation mode, SDPA attention, no gradients. Raises ``ModelError``, ``FoldingError``.
    """
    source = ModelFolder(model_dir)
    model = empty_model(source.config, dtype)
    for layer in range(source.config.num_hidden_layers):
        change = folding(fold, source.config)
        load_block(model, source.reader.get, layer, device=device, dtype=dtype, change=change)
    for name in source.outer:
        weight = source.reader.get(name).to(device=device, dtype=dtype, copy=True)
        model.get_submodule(name.removesuffix(".weight")).load_state_dict({"weight": weight}, assign=True)
    model.tie_weights()
    torch.nn.Module.to(model, device)  # the buffers
    return model.eval().requires_grad_(False)
