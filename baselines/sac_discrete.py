"""Discrete SAC from scratch (Christodoulou 2019), with feasibility masks and nothing else of RAMP's search.

It runs in the strongest form that was found: half of the critics' target is the episode's own return, without alpha *
entropy. The published target is ``sac: {return_weight: 0, entropy_in_target: true}``; with all reward at the end of an
episode it learned nothing in some dozens of episodes (docs/decisions.md).
"""

from ramp.agent.params import ScratchParams
from ramp.agent.search_loop import search
from ramp.methods.kinds import Allocator
from ramp.rl.sac_params import SacParams


class SacDiscreteParams(ScratchParams):
    """All switches that know the additive proxy off, masks on; see ``ramp.agent.params.RampParams``."""

    sac: SacParams = SacParams(return_weight=0.5, entropy_in_target=False)


METHOD = Allocator(
    title="SAC, discrete",
    source="after Christodoulou 2019, arXiv:1910.07207: masks, half Monte-Carlo targets",
    learned=True,
    allocate=search,
    params=SacDiscreteParams,
)
