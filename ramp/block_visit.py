"""One decoder block under calibration: the second moments and the ranges of what its linears read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ramp.errors import RampError
from ramp.models import SITES, LinearSpec

log = logging.getLogger("ramp.calibration")

SITE_LEADERS = {"attn_in": "q", "o_in": "o", "mlp_in": "gate", "down_in": "down"}
"""In forward order, the linear whose input is recorded for a site (q, k, v share one tensor; so do gate and up)."""


class CalibrationError(RampError):
    """Calibration windows, activations or a block that statistics cannot be taken of."""


@dataclass(frozen=True)
class Stats:
    """Statistics of one site's input over all calibration tokens, float32 [d_in] each."""

    absmax: Tensor  # max |x_j|
    absmean: Tensor  # mean |x_j|
    sqmean: Tensor  # mean x_j^2, the Hessian's diagonal


class _Enough(Exception):
    """Raised by the last hook that is needed: the rest of the block need not run."""


class _Moments:
    """Running sums over the rows of one site's input."""

    def __init__(self, d_in: int, device: torch.device, *, second: bool) -> None:
        self.n = 0
        self.absmax = torch.zeros(d_in, device=device)
        # float64: a mean over 10^5 tokens must not lose the small ones; vectors are cheap
        self.abssum = torch.zeros(d_in, dtype=torch.float64, device=device)
        self.sqsum = torch.zeros(d_in, dtype=torch.float64, device=device)
        self.outer = torch.zeros(d_in, d_in, device=device) if second else None

    def add(self, x: Tensor) -> None:
        """x: any float dtype, (batch, tokens, d_in)."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()  # (batch * tokens, d_in)
        self.n += rows.shape[0]
        self.absmax = torch.maximum(self.absmax, rows.abs().amax(0))
        self.abssum += rows.abs().sum(0, dtype=torch.float64)
        self.sqsum += rows.square().sum(0, dtype=torch.float64)
        if self.outer is not None:
            self.outer.addmm_(rows.T, rows)


class BlockVisit:
    """One decoder block with its calibration inputs, as a visitor of ``stream`` sees it.

    Statistics are those of the *current* weights: they are computed when asked for and kept until ``replace``
    changes a weight. The block's own input never changes during a visit.
    """

    def __init__(
        self,
        block: nn.Module,
        linears: dict[str, nn.Linear],
        specs: dict[str, LinearSpec],
        batches: Callable[[], Iterable[Tensor]],
        run: Callable[[Tensor], Tensor],
    ) -> None:
        self.block = block
        self.linears = linears  # role -> module, forward order
        self.specs = specs  # role -> LinearSpec
        self.layer = next(iter(specs.values())).layer
        self.inputs = batches  # the block's input: batches (batch, tokens, hidden), afresh at each call
        self._run = run
        self._hessians: dict[str, Tensor] = {}
        self._stats: dict[str, Stats] = {}

    def site_name(self, kind: str) -> str:
        """``attn_in`` -> ``model.layers.3.attn_in``."""
        return self.specs[SITE_LEADERS[kind]].site

    def readers(self, kind: str) -> list[str]:
        """Roles that read a site, forward order."""
        return [role for role in self.linears if SITES[role] == kind]

    def hessian(self, kind: str) -> Tensor:
        """H = X^T X / n of one site for the current weights: float32 [d_in, d_in], on the block's device.

        The block runs only as far as the site. This is GPTQ's Hessian (arXiv:2210.17323, section 3, H = 2 X X^T)
        without the factor 2, which cancels. All positions count, attention sinks too.
        """
        if kind not in self._hessians:
            self._collect([kind], second=True)
        return self._hessians[kind]

    def hessians(self) -> dict[str, Tensor]:
        """``hessian`` of all four sites in one pass."""
        missing = [kind for kind in SITE_LEADERS if kind not in self._hessians]
        if missing:
            self._collect(missing, second=True)
        return {kind: self._hessians[kind] for kind in SITE_LEADERS}

    def activations(self) -> dict[str, Stats]:
        """Absolute maximum, absolute mean and mean square per input channel of all four sites."""
        missing = [kind for kind in SITE_LEADERS if kind not in self._stats]
        if missing:
            self._collect(missing, second=False)
        return {kind: self._stats[kind] for kind in SITE_LEADERS}

    @torch.no_grad()
    def replace(self, role: str, weight: Tensor) -> None:
        """Put ``weight`` [d_out, d_in] in place of a linear's own and forget statistics of the old weights."""
        self.linears[role].weight.copy_(weight)
        self._hessians.clear()
        self._stats.clear()

    @torch.no_grad()
    def _collect(self, kinds: Sequence[str], *, second: bool) -> None:
        moments: dict[str, _Moments] = {}
        last = [kind for kind in SITE_LEADERS if kind in kinds][-1]

        def record(kind: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                x = args[0]
                if kind not in moments:
                    moments[kind] = _Moments(x.shape[-1], x.device, second=second)
                moments[kind].add(x)
                if kind == last:
                    raise _Enough

            return hook

        handles = [self.linears[SITE_LEADERS[kind]].register_forward_pre_hook(record(kind)) for kind in kinds]
        try:
            for x in self.inputs():
                try:
                    self._run(x)
                except _Enough:
                    continue
        finally:
            for handle in handles:
                handle.remove()
        for kind in kinds:
            self._finish(kind, moments.get(kind))

    def _finish(self, kind: str, found: _Moments | None) -> None:
        site = self.site_name(kind)
        if found is None or not found.n:
            raise CalibrationError(
                f"calibration never reached {self.specs[SITE_LEADERS[kind]].name}: the block does not call it, "
                "so ramp.models.ARCHITECTURES names the wrong linear for this family"
            )
        if not bool(torch.isfinite(found.sqsum).all()):
            bad = int((~torch.isfinite(found.sqsum)).sum())
            raise CalibrationError(
                f"{bad} of {len(found.sqsum)} channels of {site} are NaN or infinite on the calibration text: "
                "use --dtype float32, or check the checkpoint"
            )
        dead = int((found.absmax == 0).sum())
        if dead:
            log.warning("%s: %d of %d input channels are zero on all calibration tokens", site, dead, len(found.absmax))
        self._stats[kind] = Stats(
            absmax=found.absmax, absmean=(found.abssum / found.n).float(), sqmean=(found.sqsum / found.n).float()
        )
        if found.outer is not None:
            self._hessians[kind] = found.outer.div_(found.n)
