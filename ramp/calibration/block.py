"""One decoder block under calibration: second moments (Hessians) and ranges of its linears' inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ramp.core.errors import RampError
from ramp.models.architecture import SITES, LinearSpec

log = logging.getLogger("ramp.calibration.block")

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
    """The signal of the last hook that is needed: the rest of the block need not run."""


ACTIVATION_BYTES = 2 << 30
"""Up to this many bytes of activations all windows go through a block together (``BlockVisit.each_site``); a block of a
7B with 8,192 tokens takes 1.6 GB. Beyond it the block runs again for each site, in batches."""

PANELS = 8
"""Strips that a second moment is summed in: it is symmetric, and strips from the diagonal on are 9/16 of the work."""

PANEL_COLUMNS = 192
"""Least width of a strip; narrower ones make matrix products slow."""


class _Moments:
    """Running sums over the rows of one site's input: second moments (GPTQ's Hessian), ranges, or both."""

    def __init__(self, d_in: int, device: torch.device, *, second: bool, ranges: bool) -> None:
        self.n, self.d_in, self.ranges = 0, d_in, ranges
        self.outer = torch.zeros(d_in, d_in, device=device) if second else None
        if ranges:
            self.absmax = torch.zeros(d_in, device=device)
            # float64: a mean over 10^5 tokens must not lose the small ones; vectors are cheap
            self.abssum = torch.zeros(d_in, dtype=torch.float64, device=device)
            self.sqsum = torch.zeros(d_in, dtype=torch.float64, device=device)

    def strips(self) -> Iterable[slice]:
        step = max(PANEL_COLUMNS, -(-self.d_in // PANELS))
        return (slice(start, min(start + step, self.d_in)) for start in range(0, self.d_in, step))

    def add(self, x: Tensor) -> None:
        """Add the inputs ``x`` of any float dtype, (batch, tokens, d_in), to the sums."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()  # (batch * tokens, d_in)
        self.n += rows.shape[0]
        if self.ranges:
            sizes = rows.abs()
            self.absmax = torch.maximum(self.absmax, sizes.amax(0))
            self.abssum += sizes.sum(0, dtype=torch.float64)
            self.sqsum += sizes.square_().sum(0, dtype=torch.float64)
        if self.outer is not None:
            for strip in self.strips():
                self.outer[strip, strip.start :].addmm_(rows[:, strip].T, rows[:, strip.start :])

    def second(self) -> Tensor:
        """Return X^T X / n, the lower half mirrored from the upper. Ends the summing."""
        if self.outer is None:
            raise CalibrationError("no second moments were summed: ask BlockVisit for a Hessian")
        self.outer.div_(self.n)
        for strip in self.strips():
            self.outer[strip.stop :, strip] = self.outer[strip, strip.stop :].T
        return self.outer

    def squares(self) -> Tensor:
        """Return [d_in]: finite exactly where the channel is finite, zero exactly where it is always zero."""
        return self.sqsum if self.ranges or self.outer is None else self.outer.diagonal()


class BlockVisit:
    """One decoder block with its calibration inputs, as a visitor of ``stream`` sees it.

    Statistics are those of the *current* weights: they are computed when asked for and kept until ``replace``
    changes a weight. The block's own input never changes during a visit. ``outputs`` are the block's outputs for its
    current weights where a pass for statistics happened to compute them, else None.
    """

    def __init__(
        self,
        block: nn.Module,
        linears: dict[str, nn.Linear],
        specs: dict[str, LinearSpec],
        batches: Callable[[], Iterable[Tensor]],
        run: Callable[[Tensor], Tensor],
        inputs: Tensor,
    ) -> None:
        self.block = block
        self.linears = linears  # role -> module, forward order
        self.specs = specs  # role -> LinearSpec
        self.layer = next(iter(specs.values())).layer
        self.inputs = batches  # the block's input: batches (batch, tokens, hidden), afresh at each call
        self.outputs: Tensor | None = None  # (windows, tokens, hidden), where the inputs lie
        self._run = run
        self._place = inputs.device  # of all batches together, between two blocks
        self._input_bytes = inputs.nbytes  # of all batches together
        self._hessians: dict[str, Tensor] = {}
        self._stats: dict[str, Stats] = {}
        self._current: str | None = None  # the site that ``each_site`` is at
        self._disturbed = False  # whether a weight changed that ``each_site`` had passed
        self._notes: dict[str, str] = {}  # site kind -> remark on its statistics

    def site_name(self, kind: str) -> str:
        """Return the full name of a site: ``attn_in`` -> ``model.layers.3.attn_in``."""
        return self.specs[SITE_LEADERS[kind]].site

    def readers(self, kind: str) -> list[str]:
        """Return the roles that read a site, in forward order."""
        return [role for role in self.linears if SITES[role] == kind]

    def hessian(self, kind: str) -> Tensor:
        """Return H = X^T X / n of one site for the current weights: float32 [d_in, d_in], on the block's device.

        The block runs only as far as the site. This is GPTQ's Hessian (arXiv:2210.17323, section 3, H = 2 X X^T)
        without the factor 2, which cancels. All positions count, attention sinks too.
        """
        if kind not in self._hessians:
            self._collect([kind], second=True, ranges=False)
        return self._hessians[kind]

    def hessians(self, *, ranges: bool = False) -> dict[str, Tensor]:
        """Return ``hessian`` of all four sites from one pass; with ``ranges`` the same pass serves ``activations``."""
        if len(self._hessians) < len(SITE_LEADERS):
            self._collect(list(SITE_LEADERS), second=True, ranges=ranges)
        return {kind: self._hessians[kind] for kind in SITE_LEADERS}

    def activations(self) -> dict[str, Stats]:
        """Return absolute maximum, absolute mean and mean square per input channel of all four sites."""
        if len(self._stats) < len(SITE_LEADERS):
            self._collect(list(SITE_LEADERS), second=False, ranges=True)
        return {kind: self._stats[kind] for kind in SITE_LEADERS}

    @torch.no_grad()
    def each_site(self, change: Callable[[str, Tensor], None]) -> None:
        """Call ``change(kind, hessian)`` for every site in forward order; it may replace the weights that read it.

        Each Hessian is that of the block as changed so far (GPTQ's ``true_sequential``). Where the activations of all
        windows fit in ``ACTIVATION_BYTES`` the block runs once: it waits at each site while ``change`` works, and its
        outputs are those of the changed block. Otherwise it runs again, as far as the site, for each.
        """
        if self._pass_bytes() > ACTIVATION_BYTES:
            for kind in SITE_LEADERS:
                change(kind, self.hessian(kind))
            return
        seen: set[str] = set()

        def hook(module: nn.Module, args: tuple[Tensor, ...], kind: str) -> None:
            if kind in seen:  # k and v read what q did
                return
            seen.add(kind)
            moments = _Moments(args[0].shape[-1], args[0].device, second=True, ranges=False)
            moments.add(args[0])
            self._finish(kind, moments)
            self._current = kind
            change(kind, self._hessians[kind])

        self._disturbed = False
        with ExitStack() as hooks:
            for role, module in self.linears.items():
                hooks.callback(module.register_forward_pre_hook(partial(hook, kind=SITES[role])).remove)
            outputs = self._run(torch.cat(list(self.inputs())))
        self._current = None
        for kind in SITE_LEADERS:
            if kind not in seen:
                self._finish(kind, None)
        self.outputs = None if self._disturbed else outputs.to(self._place)

    def _pass_bytes(self) -> int:
        """Estimate the bytes of activations in one pass over all windows: in the MLP, three of its width are alive."""
        hidden, inner = (self.specs[role].d_in for role in ("gate", "down"))
        return self._input_bytes * (4 * hidden + 3 * inner) // hidden

    @torch.no_grad()
    def replace(self, role: str, weight: Tensor) -> None:
        """Put ``weight`` [d_out, d_in] in place of a linear's own and forget statistics of the old weights."""
        self.linears[role].weight.copy_(weight)
        self._hessians.clear()
        self._stats.clear()
        self.outputs = None
        self._disturbed |= SITES[role] != self._current

    @torch.no_grad()
    def _collect(self, kinds: Sequence[str], *, second: bool, ranges: bool) -> None:
        moments: dict[str, _Moments] = {}
        last = [kind for kind in SITE_LEADERS if kind in kinds][-1]
        # All sites: three quarters of the block have run by then. Its outputs spare ``stream`` a pass of its own.
        whole = len(kinds) == len(SITE_LEADERS) and self._input_bytes <= ACTIVATION_BYTES

        def hook(module: nn.Module, args: tuple[Tensor, ...], kind: str) -> None:
            x = args[0]
            if kind not in moments:
                moments[kind] = _Moments(x.shape[-1], x.device, second=second, ranges=ranges)
            moments[kind].add(x)
            if kind == last and not whole:
                raise _Enough

        outputs: list[Tensor] = []
        with ExitStack() as hooks:
            for kind in kinds:
                leader = self.linears[SITE_LEADERS[kind]]
                hooks.callback(leader.register_forward_pre_hook(partial(hook, kind=kind)).remove)
            for x in self.inputs():
                with suppress(_Enough):
                    y = self._run(x)
                    if whole:
                        outputs.append(y.to(self._place))
        for kind in kinds:
            self._finish(kind, moments.get(kind))
        self.outputs = torch.cat(outputs) if outputs else None

    def _finish(self, kind: str, found: _Moments | None) -> None:
        site = self.site_name(kind)
        if found is None or not found.n:
            raise CalibrationError(
                f"calibration never reached {self.specs[SITE_LEADERS[kind]].name}: the block does not call it, "
                "so ramp.models.architecture.ARCHITECTURES names the wrong linear for this family"
            )
        squares = found.squares()
        finite = torch.isfinite(squares)
        if not bool(finite.all()):
            raise CalibrationError(
                f"{int((~finite).sum())} of {found.d_in} channels of {site} are NaN or infinite on the calibration "
                "text: check the checkpoint"
            )
        notes = []
        if dead := int((squares == 0).sum()):
            notes.append(f"{dead} of {found.d_in} input channels are zero on all calibration tokens")
        if found.ranges:
            self._stats[kind] = Stats(
                absmax=found.absmax, absmean=(found.abssum / found.n).float(), sqmean=(found.sqsum / found.n).float()
            )
        if found.outer is not None:
            if found.n < found.d_in:
                notes.append(f"{found.n} calibration tokens for {found.d_in} channels, a singular Hessian")
            self._hessians[kind] = found.second()
        if notes:
            self._notes[kind] = ", ".join(notes)

    def log_notes(self) -> None:
        """Log in one line what calibration on more text would improve in this block, if anything."""
        if self._notes:
            sites = "; ".join(f"{kind}: {note}" for kind, note in sorted(self._notes.items()))
            log.warning("block %d: %s (more calibration tokens help)", self.layer, sites)
