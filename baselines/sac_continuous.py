"""Continuous SAC from scratch on one number in [0, 1] per linear, rounded to a width as HAQ does.

HAQ (Wang et al. 2019, arXiv:1811.08886) has this action and this map with DDPG as learner; here SAC learns. The masked
environment executes the nearest feasible width where the budget forbids the one that was asked for, and the replay
holds what was executed. The critics' target is that of baselines/sac_discrete.py, for the same reason.
"""

import numpy as np
from pydantic import Field

from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run
from ramp.rl.environment import AllocationEnv, ContinuousAllocationEnv
from ramp.rl.history import History
from ramp.rl.reward import RewardParams
from ramp.rl.sac_params import ContinuousSacParams


class SacContinuousParams(SearchParams):
    """As of ``ramp.agent.params.RampParams`` where a name is the same."""

    warmup_episodes: int = Field(default=10, ge=2, description="episodes of uniform actions before updates begin")
    updates_per_episode: int = Field(default=32, ge=0, description="gradient steps per episode")
    reward: RewardParams = RewardParams()
    sac: ContinuousSacParams = ContinuousSacParams(return_weight=0.5, entropy_in_target=False)


def allocate(problem: Problem, params: SacContinuousParams, run: Run) -> Allocation:
    """Spend ``run.evals`` episodes, the last one on the policy's own allocation; write the policy to ``run.out_dir``.

    Deterministic in ``run.seed``: after a crash the evaluations are answered from the journal and all else is repeated.
    """
    from ramp.problem.features import SIZE
    from ramp.rl.sac_continuous import ContinuousSAC, width_layers

    history = History(problem, run, params.reward)
    env = ContinuousAllocationEnv(problem, params.reward)
    learner = ContinuousSAC(SIZE, 1, params.sac, run.seed)
    rng = np.random.default_rng([run.seed, 0xC0])
    stats: dict[str, float] = {}
    while len(history) < run.evals - 1:
        warm = len(history) < params.warmup_episodes
        info = _play(env, learner, rng if warm else None)
        history.add(info, info["feasible"])
        history.log("uniform" if warm else "actor", info, stats)
        if len(history) >= params.warmup_episodes:
            scale, offset = history.scale(params.warmup_episodes)
            for _ in range(params.updates_per_episode):
                stats = learner.update(reward_scale=scale, return_offset=offset)
    policy = history.policy(width_layers(learner, len(problem.widths)))
    policy.save(run.out_dir)
    greedy = policy.allocation(AllocationEnv(problem, params.reward))
    _, info = env.play(greedy)
    history.add(info, info["feasible"])
    history.log("policy", info, stats)
    return history.finish(greedy, params.finalists)


def _play(env: ContinuousAllocationEnv, learner, rng: np.random.Generator | None) -> dict:
    """Play one episode of drawn actions into the replay, uniform where ``rng`` is given; return its last ``info``."""
    observation, _ = env.reset()
    seen, actions, rewards, done = [], [], [], False
    while not done:
        asked = rng.random(1) if rng is not None else (learner.act(observation) + 1) / 2  # (-1, 1) to (0, 1)
        seen.append(observation)
        observation, reward, done, _, info = env.step(asked)
        actions.append(2 * info["executed_action"] - 1)
        rewards.append(reward)
    learner.replay.add_episode(np.array(seen), np.array(actions), np.array(rewards, dtype=np.float32))
    return info


METHOD = Allocator(
    title="SAC, continuous",
    source="Haarnoja et al. 2018, arXiv:1812.05905, on HAQ's action, arXiv:1811.08886",
    learned=True,
    allocate=allocate,
    params=SacContinuousParams,
)
