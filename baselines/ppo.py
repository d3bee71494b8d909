"""PPO (Schulman et al. 2017, arXiv:1707.06347) by stable-baselines3, from scratch, on the masked environment.

PPO sees the eleven numbers and the reward at the end, not the mask: where it asks for a width that the budget forbids,
the environment executes the nearest feasible one, and PPO learns on the action that it asked for. So its likelihood
ratios are those of its own policy.
"""

from typing import Any

import gymnasium
from pydantic import Field

from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run
from ramp.rl.environment import AllocationEnv
from ramp.rl.history import History
from ramp.rl.reward import RewardParams


class PpoParams(SearchParams):
    """Parameters with the names of stable-baselines3 where they mean the same; networks as in our own learners."""

    episodes_per_update: int = Field(default=4, gt=0, description="whole episodes that every update of PPO sees")
    epochs: int = Field(default=10, gt=0, description="passes over them, in batches of one episode's length")
    hidden: int = Field(default=256, gt=0, description="units of each of the two hidden layers, actor and critic apart")
    learning_rate: float = Field(default=3e-4, gt=0, description="Adam's rate")
    gamma: float = Field(default=1.0, gt=0, le=1, description="discount; 1 because episodes are finite")
    gae_lambda: float = Field(
        default=1.0, ge=0, le=1, description="weight of long returns in the advantage; 1 as all reward is at the end"
    )
    clip_range: float = Field(default=0.2, gt=0, lt=1, description="bound on the change of an action's probability")
    entropy_weight: float = Field(default=0.01, ge=0, description="weight of the entropy bonus in the loss")
    reward: RewardParams = RewardParams()


def allocate(problem: Problem, params: PpoParams, run: Run) -> Allocation:
    """Spend ``run.evals`` episodes, the last one on the policy's own allocation; write the policy to ``run.out_dir``.

    All but the last are PPO's own roll-outs; those that no longer fill a whole update are drawn from the final policy.
    Deterministic in ``run.seed``: after a crash the evaluations are answered from the journal and all else is repeated.
    """
    import torch

    history = History(problem, run, params.reward)
    plain = AllocationEnv(problem, params.reward)
    env = Recorded(plain, history)
    per_update = min(params.episodes_per_update, run.evals - 1)
    with torch.random.fork_rng(devices=[]):  # the package seeds and draws from the global generator
        model = build(env, params, per_update * problem.n, run.seed)
        model.learn((run.evals - 1) // per_update * per_update * problem.n)
        while len(history) < run.evals - 1:
            observation, done = env.reset()[0], False
            while not done:
                observation, _, done, _, _ = env.step(int(model.predict(observation)[0]))
    policy = history.policy(actor_layers(model))
    policy.save(run.out_dir)
    greedy = policy.allocation(plain)
    _, info = plain.play(greedy)
    history.add(info, info["feasible"])
    history.log("policy", info, {})
    return history.finish(greedy, params.finalists)


class Recorded(gymnasium.Wrapper):
    """An ``AllocationEnv`` that an external learner drives; each finished episode goes into ``history``."""

    def __init__(self, env: gymnasium.Env, history: History) -> None:
        super().__init__(env)
        self.history = history

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step; keep and log the episode after its last one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            self.history.add(info, info["feasible"])
            self.history.log("actor", info, {})
        return observation, reward, terminated, truncated, info


def build(env: Recorded, params: PpoParams, steps: int, seed: int):
    """Return stable-baselines3's PPO on one environment, with an update every ``steps`` steps."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import DummyVecEnv
    from torch import nn

    learner = PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: env]),
        n_steps=steps,
        batch_size=env.history.problem.n,
        n_epochs=params.epochs,
        learning_rate=params.learning_rate,
        gamma=params.gamma,
        gae_lambda=params.gae_lambda,
        clip_range=params.clip_range,
        ent_coef=params.entropy_weight,
        policy_kwargs={"net_arch": [params.hidden, params.hidden], "activation_fn": nn.ReLU},
        seed=seed,
        device="cpu",
    )
    learner.set_logger(Logger(folder=None, output_formats=[]))  # its own leaves a folder in the temporary folder
    return learner


def actor_layers(model) -> list:
    """Return PPO's actor as (weight [out, in], bias [out]) per layer, for the policy's file."""
    from ramp.rl.actor_critic import linear_layers

    return linear_layers([*model.policy.mlp_extractor.policy_net, model.policy.action_net])


METHOD = Allocator(
    title="PPO",
    source="Schulman et al. 2017, arXiv:1707.06347, by stable-baselines3",
    learned=True,
    allocate=allocate,
    params=PpoParams,
)
