"""RAMP as far as the paper is known: plain discrete SAC from scratch, penalties and cliff, perplexity at the end.

Reward weights, entropy target and schedule are this project's choices where the paper is silent.
"""

from pydantic import Field

from ramp.agent.params import ScratchParams
from ramp.agent.search_loop import search
from ramp.methods.kinds import Allocator
from ramp.rl.reward import RewardParams
from ramp.rl.sac_params import SacParams


class RampPaperParams(ScratchParams):
    """All of our additions off; see ``ramp.agent.params.RampParams`` for what each switch does."""

    masked: bool = Field(default=False, description="penalties only, nothing is masked")
    reward: RewardParams = RewardParams(quality="log_ppl", k_o=10.0)
    sac: SacParams = SacParams()


METHOD = Allocator(
    title="RAMP (paper)",
    source="arXiv:2603.17891, as far as known",
    learned=True,
    allocate=search,
    params=RampPaperParams,
)
