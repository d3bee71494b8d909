"""The switches of RAMP's search; reading them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ramp.rl.additive_critic import SurrogateParams
from ramp.rl.reward import RewardParams
from ramp.rl.sac_params import SacParams


class RampParams(BaseModel):
    """Switches of the search. Defaults are those of ``ramp``; brackets hold the value of the paper-faithful variant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    masked: bool = Field(default=True, description="mask widths that the budget forbids [off: penalties only]")
    projection: bool = Field(default=True, description="spend leftover bytes of a roll-out and repair excess [off]")
    warm_start: bool = Field(default=True, description="score the Fisher knapsack first and search from it [off]")
    shaping: bool = Field(
        default=True, description="potential shaping by the additive proxy [off: reward at the end only]"
    )
    clone_steps: int = Field(
        default=400, ge=0, description="behaviour-cloning steps on knapsack trajectories before the search [0]"
    )
    clone_weight: float = Field(
        default=1.0, ge=0, description="weight of the same cross-entropy beside SAC's actor loss [0]"
    )
    distil_steps: int = Field(
        default=200, ge=0, description="cloning steps at the very end, on what the additive critic has learned [0]"
    )
    clone_offsets: tuple[float, ...] = Field(
        default=(-0.5, -0.35, -0.2, -0.1, 0.0, 0.1, 0.2, 0.35, 0.5),
        description="bits around the budget at which knapsacks are solved for cloning; no evaluation",
    )
    refresh: int = Field(default=10, gt=0, description="episodes between two renewals of the cloned trajectories")
    critic_knapsack: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of episodes proposed by a knapsack on the learned additive critic [0]",
    )
    knapsack_spread: float = Field(
        default=0.3, ge=0, le=1, description="scale of its draws around the critic's mean; 1 is Thompson sampling"
    )
    follow: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="chance that a linear of a roll-out keeps the best allocation's width [0: policy alone]",
    )
    warmup_episodes: int = Field(
        default=10, ge=2, description="episodes before updates begin; their returns set the scale"
    )
    updates_per_episode: int = Field(default=32, ge=0, description="gradient steps per episode, at most")
    updates_total: int = Field(
        default=3200,
        ge=0,
        description="gradient steps of a whole search, spread over its evaluations and rounded up to whole ones per "
        "episode; bounds the time of long searches on small models [0: no limit]",
    )
    finalists: int = Field(
        default=5, gt=0, description="best allocations on search text that are scored on selection text"
    )
    embedding: tuple[str, ...] | None = Field(
        default=None,
        description="numbers of the embedding that the policy sees, by name (ramp.problem.features); null: all",
    )
    incumbent: Literal["best", "mean"] = Field(
        default="best",
        description="centre of roll-outs and cloning: the allocation of least loss, or the knapsack on the additive "
        "critic's mean, which does not depend on one lucky score",
    )
    pool_windows: int = Field(
        default=0,
        ge=0,
        description="windows of search text beside the study's, cut into parts; an episode is scored on one part, "
        "relative to the start there, and parts take turns [0: every episode on the same windows]",
    )
    part_windows: int = Field(
        default=8, gt=0, description="windows of one part of search text; cost is counted in tokens"
    )
    reward: RewardParams = RewardParams()
    sac: SacParams = SacParams(entropy_in_target=False)
    surrogate: SurrogateParams = SurrogateParams()

    @property
    def uses_proxy(self) -> bool:
        """Whether any switch reads the additive proxy; its tokens are then part of the search's cost."""
        return (
            self.warm_start
            or self.shaping
            or self.clone_steps > 0
            or self.clone_weight > 0
            or self.distil_steps > 0
            or self.critic_knapsack > 0
        )

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
    clone_steps: int = Field(default=0, ge=0, description="no behaviour cloning")
    distil_steps: int = Field(default=0, ge=0, description="no behaviour cloning")
    clone_weight: float = Field(default=0.0, ge=0, description="no behaviour cloning")
    critic_knapsack: float = Field(default=0.0, ge=0, le=1, description="the policy proposes every allocation")
    follow: float = Field(default=0.0, ge=0, lt=1, description="the policy alone chooses every width")
    updates_total: int = Field(default=0, ge=0, description="no limit: the policy learns by updates alone")
