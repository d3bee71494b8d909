"""Search the scales of a fold: ``python -m ramp.calibration.fold_search``.

The kinds: ``awq`` (Lin et al., arXiv:2306.00978) and ``smoothquant`` (Xiao et al., arXiv:2211.10438).
"""

from __future__ import annotations

import argparse
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.atomic_files import atomic_path
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch
    from torch import Tensor

    from ramp.calibration.block import SITE_LEADERS, BlockVisit
    from ramp.calibration.folding import FoldingError, check_fold
    from ramp.calibration.stream import stream
    from ramp.calibration.windows import calibration_windows
    from ramp.core.tensor_file import save_tensors
    from ramp.core.tensors import open_tensors
    from ramp.models.architecture import head_dim
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.awq import ScaleSearch, smoothquant_scale
    from ramp.quantizers.sizes import group_size_for

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    Found = tuple[dict[str, Tensor], dict[str, list[float]]]
    """A fold, and its errors: site -> [error before, error after]."""

log = logging.getLogger("ramp.calibration.fold_search")

KINDS = {"none": (), "awq": ("attn_in", "o_in", "mlp_in", "down_in"), "smoothquant": ("attn_in", "mlp_in")}
"""Sites that each kind folds. SmoothQuant folds into norms only, as its authors do."""


LIMITS = {"attn_in": 2.0**8, "o_in": 2.0**4, "mlp_in": 2.0**8, "down_in": 2.0**4}
"""Searched scales are kept within 1/limit .. limit. Rows of v and up are divided by theirs, and a 6-bit grid step of
1e-3 divided by more than 16 would fall under 2^-14, below which a float16 scale has fewer bits; norm gains are stored
in float32 and have more room."""


def tie_over_group(x: Tensor, config: PretrainedConfig) -> Tensor:
    """Return statistics of o_in [heads * head_dim], averaged over the query heads of each group and repeated."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    grouped = x.view(kv_heads, heads // kv_heads, head_dim(config))
    return grouped.mean(1, keepdim=True).expand_as(grouped).reshape(-1).contiguous()


def project(s: Tensor, kind: str, config: PretrainedConfig, *, powers_of_two: bool) -> Tensor:
    """Return the nearest allowed scales: within the site's limit, one per key/value channel, powers of two if asked.

    s: float [channels of the site], above 0. Returns the same shape and dtype.
    """
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
    max_rows: int = 0  # rows that AWQ ranks candidates on; 0: all
    sym: bool = False
    duo: bool = False

    def __post_init__(self) -> None:
        for what, names, known in (("kind of fold", [self.kind], KINDS), ("site", self.sites or (), SITE_LEADERS)):
            if unknown := sorted(set(names) - set(known)):
                raise FoldingError(f"unknown {what} '{unknown[0]}' (known: {', '.join(known)})")


def search_folds(model_dir: str | Path, windows: Tensor, search: FoldSearch, *, device: torch.device | str) -> Found:
    """Search the scales of every site in one pass of the float model.

    windows: int64 [count, length]. Errors are AWQ's; other kinds have none. Sites are searched on the unfolded model,
    independently: dividing rows of v or up by s does not change their rounding error as the next linear sees it,
    because every row has grids of its own.
    """
    return search_widths(model_dir, windows, search, [search.bits], device=device)[0]


def search_widths(
    model_dir: str | Path,
    windows: Tensor,
    search: FoldSearch,
    menu: Sequence[Sequence[int]],
    *,
    device: torch.device | str,
) -> list[Found]:
    """Return what ``search_folds`` gives for each of some sets of widths in place of ``search.bits``, from one pass.

    The statistics are the same for all, and an error of one width serves every set that it is in.
    """
    chosen = KINDS[search.kind] if search.sites is None else tuple(search.sites)
    config = ModelFolder(model_dir).config
    found: list[Found] = [({}, {}) for _ in menu]

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
                each = ScaleSearch(
                    weights, block.hessian(site_kind), lift_dead(stats.absmean), groups, tie=tie,
                    max_rows=search.max_rows or None, name=site, sym=search.sym, duo=search.duo,
                )  # fmt: skip
                for bits, (fold, errors) in zip(menu, found, strict=True):
                    s, before, after = each.best(bits)
                    fold[site], errors[site] = s.float().cpu(), [before, after]
            else:
                tops = torch.stack([w.abs().amax(0) for w in weights]).amax(0)
                s = tie(smoothquant_scale(lift_dead(stats.absmax), lift_dead(tops), search.alpha))
                for fold, _ in found:
                    fold[site] = s.float().cpu()

    if chosen:
        stream(model_dir, windows, visit, device=device)
    for fold, _ in found:
        check_fold(fold, config)
    return found


def lift_dead(statistic: Tensor) -> Tensor:
    """Raise zeros of a statistic [d_in] to its least positive value: a dead channel must not set the range of s."""
    alive = statistic > 0
    if not bool(alive.any()):
        return torch.ones_like(statistic)
    return torch.where(alive, statistic, statistic[alive].min())


def main(argv: Sequence[str] | None = None) -> int:
    """Search the scales of one kind of fold and write them."""
    parser = cli.parser("Scale Folding: per-channel scales of every site, searched once and shared by all widths.")
    add_text_arguments(parser)
    parser.add_argument("--kind", required=True, choices=list(KINDS), help="how scales are found")
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4], help="widths whose output errors AWQ sums")
    parser.add_argument("--group-size", type=int, default=128, help="group size of the grid that AWQ rounds to")
    parser.add_argument("--sites", nargs="+", choices=list(LIMITS), help="fold these sites; default: the kind's")
    parser.add_argument("--alpha", type=float, default=0.5, help="SmoothQuant's migration strength")
    parser.add_argument("--powers-of-two", action="store_true", help="round scales so that folding norms is bit-exact")
    parser.add_argument("--max-rows", type=int, default=0, help="AWQ: rows that rank candidates; 0: all")
    parser.add_argument("--sym", action="store_true", help="AWQ: search on symmetric grids")
    parser.add_argument("--duo", action="store_true", help="AWQ: candidates that weigh the weights' size too")
    parser.add_argument("--out", type=OutputFile, required=True, help="safetensors file to write")
    other = "AWQ: in the same pass, write the fold that a search for these bits alone gives"
    parser.add_argument("--also", type=other_fold, nargs="+", default=[], metavar="BITS=FILE", help=other)
    parser.add_argument("--made", type=Path, help="take this fold where another search wrote it by --also")
    args = parser.parse_args(argv)
    search = FoldSearch(**{each.name: getattr(args, each.name) for each in fields(FoldSearch)})
    if args.also and args.kind != "awq":
        raise FoldingError(f"--also is AWQ's: a fold of kind {args.kind} does not depend on the width")
    if args.made and is_made(args.made, about(args, args.bits, {})):
        with atomic_path(args.out) as partial:
            shutil.copyfile(args.made, partial)
        log.info("searched together with another fold: %s", args.made)
        return 0
    if args.kind == "none":
        check_fold({}, ModelFolder(args.model_dir).config)
        save_tensors(args.out, {}, {"kind": args.kind, "powers_of_two": args.powers_of_two})
        return 0
    windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length, draw=args.draw)
    menu = [list(args.bits), *([bits] for bits, _ in args.also)]
    (fold, errors), *others = search_widths(args.model_dir, windows, search, menu, device=pick_device(args.device))
    if errors:
        ratios = [math.log(max(after, 1e-30) / max(before, 1e-30)) for before, after in errors.values()]
        log.info("output error after / before folding, geometric mean: %.3f", math.exp(sum(ratios) / len(ratios)))
    for (bits, path), (scales, left) in zip(args.also, others, strict=True):
        save_tensors(path, scales, about(args, [bits], left))
    save_tensors(args.out, fold, about(args, args.bits, errors))
    return 0


def other_fold(text: str) -> tuple[int, Path]:
    """Return bits and file of one value of ``--also``."""
    bits, path = cli.named_value(text, "BITS=FILE")
    if not bits.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not BITS=FILE")
    return int(bits), Path(path)


def about(args: argparse.Namespace, bits: Sequence[int], errors: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the metadata of a fold file: how it was searched, and its errors."""
    tokens = args.tokens // args.length * args.length
    made = {"kind": args.kind, "powers_of_two": args.powers_of_two, "bits": list(bits), "group_size": args.group_size}
    made |= {"tokens": tokens, "errors": dict(errors)}
    if args.kind == "smoothquant":
        return made | {"alpha": args.alpha}
    return made | {"sym": args.sym, "duo": args.duo}


def is_made(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether a file holds a fold that was searched as ``wanted`` says, errors aside."""
    try:
        with open_tensors(path, "fold") as fold:
            return {**fold.about, "errors": {}} == wanted
    except RampError:
        return False


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
