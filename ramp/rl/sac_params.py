"""Parameters of discrete and continuous SAC; reading them imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from ramp.methods.kinds import Params

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Entropy = Annotated[float, Field(gt=0, lt=1)]


class LearnerParams(Params):
    """Shared parameters; sizes, rate and batch as usual (Haarnoja et al. 2018, arXiv:1812.05905)."""

    hidden: PositiveInt = 256
    """Units of each of the two hidden layers."""
    learning_rate: PositiveFloat = 3e-4
    """Adam's rate, of actor, critics and temperature."""
    batch_size: PositiveInt = 256
    """Transitions per update."""
    gamma: PositiveShare = 1.0
    """Discount; 1 because episodes are finite."""
    tau: PositiveShare = 0.005
    """Share of the critics that the target critics take over per update."""
    alpha_start: PositiveFloat = 0.1
    """Temperature at the start, in units of reward."""
    entropy_in_target: bool = True
    """Soft value in the critics' target; off keeps alpha * entropy out of long returns."""
    return_weight: Share = 0.0
    """Share of the episode's own return in the critics' target; 0 is plain SAC."""
    replay_capacity: PositiveInt = 1_000_000
    """Transitions kept; the oldest are overwritten."""


class SacParams(LearnerParams):
    """Discrete SAC."""

    rho_start: Entropy = 0.5
    """Target entropy as a share of log(allowed actions), at the start."""
    rho_end: Entropy = 0.2
    """The same at the end; the caller anneals in between."""


class ContinuousSacParams(LearnerParams):
    """Continuous SAC."""

    target_entropy: float = -1.0
    """Target of the policy's entropy per number of the action, in nats on (-1, 1); uniform has log 2."""
