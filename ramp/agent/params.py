"""The switches of RAMP's search; reading them imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from ramp.methods.kinds import SearchParams
from ramp.rl.additive_critic import SurrogateParams
from ramp.rl.reward import RewardParams
from ramp.rl.sac_params import SacParams, Share


class RampParams(SearchParams):
    """Switches of the search. Defaults are those of ``ramp``; brackets hold the value of the paper-faithful variant."""

    masked: bool = True
    """Mask widths that the budget forbids [off: penalties only]."""
    projection: bool = True
    """Spend leftover bytes of a roll-out and repair excess [off]."""
    warm_start: bool = True
    """Score the Fisher knapsack first and search from it [off]."""
    shaping: bool = True
    """Potential shaping by the additive proxy [off: reward at the end only]."""
    clone_steps: NonNegativeInt = 400
    """Behaviour-cloning steps on knapsack trajectories before the search [0]."""
    clone_weight: NonNegativeFloat = 1.0
    """Weight of the same cross-entropy beside SAC's actor loss [0]."""
    distil_steps: NonNegativeInt = 200
    """Cloning steps at the very end, on what the additive critic has learned [0]."""
    clone_offsets: tuple[float, ...] = (-0.5, -0.35, -0.2, -0.1, 0.0, 0.1, 0.2, 0.35, 0.5)
    """Bits around the budget at which knapsacks are solved for cloning; no evaluation."""
    refresh: PositiveInt = 10
    """Episodes between two renewals of the cloned trajectories."""
    critic_knapsack: Share = 0.5
    """Share of episodes proposed by a knapsack on the learned additive critic [0]."""
    knapsack_spread: Share = 0.3
    """Scale of its draws around the critic's mean; 1 is Thompson sampling."""
    follow: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Chance that a linear of a roll-out keeps the best allocation's width [0: policy alone]."""
    warmup_episodes: Annotated[int, Field(ge=2)] = 10
    """Episodes before updates begin; their returns set the scale."""
    updates_per_episode: NonNegativeInt = 32
    """Gradient steps per episode, at most."""
    updates_total: NonNegativeInt = 3200
    """Gradient steps of a whole search, spread over its evaluations and rounded up to whole ones per episode; bounds
    the time of long searches on small models [0: no limit]."""
    embedding: tuple[str, ...] | None = None
    """Numbers of the embedding that the policy sees, by name (ramp.problem.features); null: all."""
    incumbent: Literal["best", "mean"] = "best"
    """Centre of roll-outs and cloning: the allocation of least loss, or the knapsack on the additive critic's mean,
    which does not depend on one lucky score."""
    pool_windows: NonNegativeInt = 0
    """Windows of search text beside the study's, cut into parts; an episode is scored on one part, relative to the
    start there, and parts take turns [0: every episode on the same windows]."""
    part_windows: PositiveInt = 8
    """Windows of one part of search text; cost is counted in tokens."""
    reward: RewardParams = RewardParams()
    sac: SacParams = SacParams(entropy_in_target=False)
    surrogate: SurrogateParams = SurrogateParams()

    @property
    def uses_proxy(self) -> bool:
        """Return whether any switch reads the additive proxy; its tokens are then part of the search's cost."""
        steps = (self.clone_steps, self.clone_weight, self.distil_steps, self.critic_knapsack)
        return self.warm_start or self.shaping or any(steps)

    def search_parts(self) -> tuple[int, int]:
        """Return the windows of the pool, and those of one part of it."""
        return self.pool_windows, self.part_windows

    @model_validator(mode="after")
    def _parts_need_a_start(self) -> RampParams:
        if self.pool_windows and not self.warm_start:
            raise ValueError("pool_windows needs warm_start: parts are compared by what the start scores on them")
        if self.pool_windows % self.part_windows:
            raise ValueError(f"pool_windows = {self.pool_windows} is no multiple of part_windows = {self.part_windows}")
        return self


class ScratchParams(RampParams):
    """The policy alone, from scratch: every switch off that uses the additive proxy or earlier allocations."""

    projection: bool = Field(default=False, description="the policy's choice is executed as it is")
    warm_start: bool = Field(default=False, description="from scratch")
    shaping: bool = Field(default=False, description="reward at the end only")
    clone_steps: NonNegativeInt = Field(default=0, description="no behaviour cloning")
    distil_steps: NonNegativeInt = Field(default=0, description="no behaviour cloning")
    clone_weight: NonNegativeFloat = Field(default=0.0, description="no behaviour cloning")
    critic_knapsack: Share = Field(default=0.0, description="the policy proposes every allocation")
    follow: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="the policy alone chooses every width")
    updates_total: NonNegativeInt = Field(default=0, description="no limit: the policy learns by updates alone")
