"""Parameters of discrete and continuous SAC; reading them imports no torch."""

from pydantic import BaseModel, ConfigDict, Field


class LearnerParams(BaseModel):
    """Shared parameters; sizes, rate and batch as usual (Haarnoja et al. 2018, arXiv:1812.05905)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(default=256, gt=0, description="units of each of the two hidden layers")
    learning_rate: float = Field(default=3e-4, gt=0, description="Adam's rate, of actor, critics and temperature")
    batch_size: int = Field(default=256, gt=0, description="transitions per update")
    gamma: float = Field(default=1.0, gt=0, le=1, description="discount; 1 because episodes are finite")
    tau: float = Field(
        default=0.005, gt=0, le=1, description="share of the critics that the target critics take over per update"
    )
    alpha_start: float = Field(default=0.1, gt=0, description="temperature at the start, in units of reward")
    entropy_in_target: bool = Field(
        default=True, description="soft value in the critics' target; off keeps alpha * entropy out of long returns"
    )
    return_weight: float = Field(
        default=0.0, ge=0, le=1, description="share of the episode's own return in the critics' target; 0 is plain SAC"
    )
    replay_capacity: int = Field(default=1_000_000, gt=0, description="transitions kept; the oldest are overwritten")


class SacParams(LearnerParams):
    """Discrete SAC."""

    rho_start: float = Field(
        default=0.5, gt=0, lt=1, description="target entropy as a share of log(allowed actions), at the start"
    )
    rho_end: float = Field(default=0.2, gt=0, lt=1, description="the same at the end; the caller anneals in between")


class ContinuousSacParams(LearnerParams):
    """Continuous SAC."""

    target_entropy: float = Field(
        default=-1.0,
        description="target of the policy's entropy per number of the action, in nats on (-1, 1); uniform has log 2",
    )
