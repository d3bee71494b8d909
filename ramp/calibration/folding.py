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
The kinds of search: ``awq`` (Lin et al., arXiv:2306.00978) and ``smoothquant`` (Xiao et al., arXiv:2211.10438).

A fold file is safetensors with ``{site}`` float32 [d_in] each, ``o_in`` already repeated; an absent site means ones.
Its metadata key ``ramp`` is JSON: kind, bits, group_size, tokens, powers_of_two, errors per site, and sym and
duo of AWQ, alpha of SmoothQuant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ramp.calibration.block import SITE_LEADERS, BlockVisit
from ramp.calibration.stream import StateEdit, load_block, stream
from ramp.core.errors import RampError
from ramp.core.files import require_file
from ramp.models.architecture import SITES, architecture, head_dim, list_linears
from ramp.models.empty_model import empty_model
from ramp.models.folder import ModelFolder
from ramp.quantizers.awq import search_scale, smoothquant_scale
from ramp.quantizers.sizes import group_size_for

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


PRODUCERS = {"attn_in": "attn_norm", "o_in": "v", "mlp_in": "mlp_norm", "down_in": "up"}
"""The tensor that is divided: a norm (by its field in ``Architecture``) or the rows of a linear (by its role)."""


KINDS = {"none": (), "awq": ("attn_in", "o_in", "mlp_in", "down_in"), "smoothquant": ("attn_in", "mlp_in")}
"""Sites that each kind folds. SmoothQuant folds into norms only, as its authors do."""


LIMITS = {"attn_in": 2.0**8, "o_in": 2.0**4, "mlp_in": 2.0**8, "down_in": 2.0**4}
"""Searched scales are kept within 1/limit .. limit. Rows of v and up are divided by theirs, and a 6-bit grid step of
1e-3 divided by more than 16 would fall under 2^-14, the smallest normal float16 (``ramp.quantizers.affine.SCALE_MIN``);
norm gains are stored in float32 and have more room."""


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


def tie_over_group(x: Tensor, config: PretrainedConfig) -> Tensor:
    """Return statistics of o_in [heads * head_dim], averaged over the query heads of each group and repeated."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    grouped = x.view(kv_heads, heads // kv_heads, head_dim(config))
    return grouped.mean(1, keepdim=True).expand_as(grouped).reshape(-1).contiguous()


def check_fold(fold: Fold, config: PretrainedConfig) -> None:
    """Raise ``FoldingError`` unless every entry is a site of this model with finite, positive scales of its width."""
    widths = {linear.site: linear.d_in for linear in list_linears(config)}
    for site, s in fold.items():
        if site not in widths:
            raise FoldingError(
                f"the fold has a site '{site}' that this model lacks (it has, for instance, '{next(iter(widths))}')"
            )
        if s.shape != (widths[site],):
            raise FoldingError(f"scales of {site} have shape {list(s.shape)}, the model wants [{widths[site]}]")
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

    def scale(name: str, factor: Tensor) -> None:
        old = state[name]
        wide = torch.promote_types(old.dtype, torch.float32)
        state[name] = (old.to(wide) * factor.to(old.device, wide)).to(old.dtype)

    def divide(name: str, s: Tensor) -> None:
        old = state[name]
        wide = torch.promote_types(old.dtype, torch.float32)
        state[name] = (old.to(wide) / s.to(old.device, wide)).to(old.dtype)

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
            scale(name, s)
        if norm:  # g <- g / s; the linears' own biases do not pass through the norm and stay
            divide(f"{producer}.weight", s)
            continue
        rows = kv_scales(s, config) if kind == "o_in" else s
        divide(f"{producer}.weight", rows.unsqueeze(1))
        if f"{producer}.bias" in state:
            divide(f"{producer}.bias", rows)


def folder(fold: Fold, config: PretrainedConfig) -> StateEdit | None:
    """Return the fold as an edit of state dicts, for ``ramp.calibration.stream.stream``; None for an empty fold."""
    if not fold:
        return None
    check_fold(fold, config)
    return partial(apply_fold, fold=fold, config=config)


def load_fold(path: str | Path, config: PretrainedConfig) -> dict[str, Tensor]:
    """Read and check a fold file: site -> float32 [d_in]; empty for ``none``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require_file(path, "fold")
    try:
        fold = load_file(path)
    except SafetensorError as error:
        raise FoldingError(f"{path} is not a readable fold file ({error}): run ramp.calibration.fold again") from None
    check_fold(fold, config)
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
    edit = folder(fold, source.config)
    model = empty_model(source.config, dtype)
    for layer in range(source.config.num_hidden_layers):
        load_block(model, source.reader, layer, device=device, dtype=dtype, fold=edit)
    for name in source.outer:
        weight = source.reader.get(name).to(device=device, dtype=dtype, copy=True)
        model.get_submodule(name.removesuffix(".weight")).load_state_dict({"weight": weight}, assign=True)
    model.tie_weights()
    torch.nn.Module.to(model, device)  # the buffers
    return model.eval().requires_grad_(False)


def project(s: Tensor, kind: str, config: PretrainedConfig, *, powers_of_two: bool) -> Tensor:
    """Return the nearest allowed scales: within the site's limit, one per key/value channel, powers of two if asked."""
    s = s / (s.max() * s.min()).sqrt()  # a common factor changes no rounding; centred, it is furthest from the limits
    s = s.clamp(1 / LIMITS[kind], LIMITS[kind])
    if kind == "o_in":
        s = tie_over_group(s, config)
    return torch.exp2(torch.log2(s).round()) if powers_of_two else s


@dataclass(frozen=True)
class FoldSearch:
    """The settings of a search. ``awq`` takes, per site, the scale of its 20-point grid with the least output error of
    all its readers, summed over ``bits``: one scale shared by all widths. ``smoothquant`` takes equation 4 of its paper
    at ``alpha``. ``none`` folds nothing. Raises ``FoldingError`` for an unknown kind or site."""

    kind: str
    bits: Sequence[int] = (3, 4)
    group_size: int = 128  # of the grid that AWQ rounds to
    sites: Sequence[str] | None = None  # None: those of the kind
    alpha: float = 0.5
    powers_of_two: bool = False
    max_rows: int | None = None  # rows that AWQ ranks candidates on; None: all
    sym: bool = False
    duo: bool = False

    def __post_init__(self) -> None:
        for what, names, known in (("kind of fold", [self.kind], KINDS), ("site", self.sites or (), SITE_LEADERS)):
            if unknown := sorted(set(names) - set(known)):
                raise FoldingError(f"unknown {what} '{unknown[0]}' (known: {', '.join(known)})")


def search_folds(
    model_dir: str | Path, windows: Tensor, search: FoldSearch, *, device: torch.device | str, batch: int = 4
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Search the scales of every site in one pass of the float model: (fold, site -> [error before, error after]).

    windows: int64 [count, length]. Errors are AWQ's; other kinds have none. Sites are searched on the unfolded model,
    independently: dividing rows of v or up by s does not change their rounding error as the next linear sees it,
    because every row has grids of its own.
    """
    chosen = KINDS[search.kind] if search.sites is None else tuple(search.sites)
    config = ModelFolder(model_dir).config
    fold: dict[str, Tensor] = {}
    errors: dict[str, list[float]] = {}

    def visit(block: BlockVisit) -> None:
        if search.kind == "awq":
            block.hessians(ranges=True)  # one pass for both
        for site_kind, stats in block.activations().items():
            if site_kind not in chosen:
                continue
            site = block.site_name(site_kind)
            weights = [block.linears[role].weight for role in block.readers(site_kind)]  # [d_out_i, d_in] each
            tie = partial(project, kind=site_kind, config=config, powers_of_two=search.powers_of_two)
            if search.kind == "awq":
                groups = group_size_for(weights[0].shape[1], search.group_size, site)
                hessian, absmean = block.hessian(site_kind), lift_dead(stats.absmean)
                s, before, after = search_scale(
                    weights, hessian, absmean, search.bits, groups, tie=tie, max_rows=search.max_rows, name=site,
                    sym=search.sym, duo=search.duo,
                )  # fmt: skip
                errors[site] = [before, after]
            else:
                tops = torch.stack([w.abs().amax(0) for w in weights]).amax(0)
                s = tie(smoothquant_scale(lift_dead(stats.absmax), lift_dead(tops), search.alpha))
            fold[site] = s.float().cpu()

    if chosen:
        stream(model_dir, windows, visit, device=device, batch=batch)
    check_fold(fold, config)
    return fold, errors


def lift_dead(statistic: Tensor) -> Tensor:
    """Raise zeros of a statistic [d_in] to its least positive value: a dead channel must not set the range of s."""
    alive = statistic > 0
    if not bool(alive.any()):
        return torch.ones_like(statistic)
    return torch.where(alive, statistic, statistic[alive].min())
