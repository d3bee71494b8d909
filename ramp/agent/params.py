"""The switches of RAMP's search, apart from ramp/agent/agent.py so that reading a configuration does not import
torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ramp.rl.environment import RewardParams
from ramp.rl.sac_params import SacParams
from ramp.rl.surrogate import SurrogateParams


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
    updates_per_episode: int = Field(default=32, ge=0, description="gradient steps per episode, at most")
    updates_total: int = Field(
        default=3200,
        ge=0,
        description="gradient steps of a whole search, shared out over its evaluations and rounded up to whole ones an "
        "episode: long searches of small models would else spend their time on them [0: no limit]",
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
        description="what roll-outs, exchanges and cloning go by: the least loss seen, or the knapsack on the "
        "additive critic's mean, which no single lucky score decides",
    )
    swap_share: float = Field(
        default=0.0, ge=0, le=1, description="share of episodes that are mirrored exchanges around the incumbent [0]"
    )
    swaps: int = Field(default=6, gt=0, description="exchanges of one such episode; its mirror is the next episode")
    budget_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the actor's episodes at another budget, drawn from clone_offsets: one policy for all "
        "budgets [0: clones alone teach it the others]",
    )
    pool_windows: int = Field(
        default=0,
        ge=0,
        description="windows of search text beside the study's, cut into parts; an episode is scored on one part, "
        "relative to the start there, and parts take turns [0: every episode on the same windows]",
    )
    part_windows: int = Field(
        default=8, gt=0, description="windows of one part, of search and of selection text; cost is counted in tokens"
    )
    top_k: int = Field(
        default=0,
        ge=0,
        description="search text is scored over the float model's so many most probable words and the rest as one "
        "(ramp.scoring.topk), which sees less than the KL; selection text never is [0: over the whole vocabulary]",
    )
    selection_windows: int = Field(
        default=0,
        ge=0,
        description="windows of selection text, cut into parts, on which finalists race [0: the study's, all on all]",
    )
    race: bool = Field(default=True, description="on parts, drop the worse half of the finalists at each doubling")
    margin: float = Field(
        default=0.0, ge=0, description="standard errors by which a finalist must beat the start; needs parts"
    )
    mean_finalists: tuple[float, ...] = Field(
        default=(),
        description="more finalists: knapsacks on the additive critic's mean, moved towards the proxy by these shares",
    )
    policy_knapsack: bool = Field(
        default=False,
        description="the policy's own allocation maximises its summed log-probability under the budget, instead of "
        "the likeliest width at each step; for the search, transfer does it by --knapsack",
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

    @model_validator(mode="after")
    def _parts_where_they_are_needed(self) -> RampParams:
        if self.margin > 0 and self.selection_windows == 0:
            raise ValueError(f"margin = {self.margin} needs paired scores on parts: set selection_windows")
        if self.pool_windows and not self.warm_start:
            raise ValueError("pool_windows needs warm_start: parts are compared by what the start scores on them")
        for name in ("pool_windows", "selection_windows"):
            if getattr(self, name) % self.part_windows:
                raise ValueError(f"{name} = {getattr(self, name)} is no multiple of part_windows = {self.part_windows}")
        return self


class ScratchParams(RampParams):
    """Everything off that knows the additive proxy or what was found before: the policy alone, from scratch."""

    projection: bool = Field(default=False, description="what the policy says is executed")
    warm_start: bool = Field(default=False, description="from scratch")
    shaping: bool = Field(default=False, description="reward at the end only")
    clone_steps: int = Field(default=0, ge=0, description="no behaviour cloning")
    distil_steps: int = Field(default=0, ge=0, description="no behaviour cloning")
    clone_weight: float = Field(default=0.0, ge=0, description="no behaviour cloning")
    critic_knapsack: float = Field(default=0.0, ge=0, le=1, description="the policy proposes every allocation")
    follow: float = Field(default=0.0, ge=0, lt=1, description="the policy alone chooses every width")
    updates_total: int = Field(default=0, ge=0, description="no limit: the updates are all that it learns by")
