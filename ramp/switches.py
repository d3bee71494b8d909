"""The switches of RAMP's search, apart from ramp/agent.py so that reading a configuration does not import torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ramp.environment import RewardParams
from ramp.sac_params import SacParams
from ramp.surrogate import SurrogateParams


class RampParams(BaseModel):
    """Switches of the search. Defaults are ``ramp``; a term in brackets names what the paper-faithful variant does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    masked: bool = Field(default=True, description="mask widths that the budget forbids [off: penalties only]")
    projection: bool = Field(default=True, description="after a roll-out spend leftover bytes and repair excess [off]")
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
        default=0.3, ge=0, le=1, description="how far its draws stray from the critic's mean; 1 is Thompson sampling"
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
    updates_per_episode: int = Field(default=32, ge=0, description="gradient steps per episode")
    finalists: int = Field(
        default=5, gt=0, description="best allocations on search text that are scored on selection text"
    )
    reward: RewardParams = RewardParams()
    sac: SacParams = SacParams(entropy_in_target=False)
    surrogate: SurrogateParams = SurrogateParams()

    @property
    def uses_proxy(self) -> bool:
        """Whether any switch reads the additive proxy, whose tokens are then charged."""
        return (
            self.warm_start
            or self.shaping
            or self.clone_steps > 0
            or self.clone_weight > 0
            or self.distil_steps > 0
            or self.critic_knapsack > 0
        )
