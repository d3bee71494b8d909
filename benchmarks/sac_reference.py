"""Our SAC on control tasks whose returns are known, compared with stable-baselines3's.

    python -m benchmarks.sac_reference --out FILE.json

- *CartPole-v1* by ``ramp.rl.sac_discrete.DiscreteSAC``, the class that the search uses. The largest return is 500, and
  gymnasium calls the task solved at 475.
- *Pendulum-v1* by ``ramp.rl.sac_continuous.ContinuousSAC`` and by stable-baselines3's SAC: the same steps, sizes,
  rates, batches and start, one update per step on each side, three seeds each.

A seed's return is the mean over ``--episodes`` greedy episodes that start alike for all seeds and both learners.
``detail`` has every one of them, the returns met while learning, and the time that learning took.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from benchmarks.measure import Piece, Sample, command_line, compared, parser, row, timed
from ramp.core import cli
from ramp.rl.sac_continuous import ContinuousSAC
from ramp.rl.sac_discrete import DiscreteSAC
from ramp.rl.sac_params import ContinuousSacParams, SacParams

log = logging.getLogger("benchmarks.sac_reference")

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
BEST = 500.0
"""Largest return of CartPole-v1: one for each of its 500 steps."""
EVALUATION_SEED = 10_000
"""Seed of the first greedy episode; the others count on from it."""

Act = Callable[[np.ndarray], Any]
"""Observation -> greedy action, in the environment's own terms."""


class Learned(NamedTuple):
    """A learner's greedy policy and its returns."""

    act: Act
    returns: list[float]  # of the episodes that it met while learning


SIZES: dict[str, Any] = {"hidden": 64, "learning_rate": 1e-3}
"""Of all learners unless said otherwise: minutes instead of an hour on one core."""


def discrete_params() -> SacParams:
    """Return the search's parameters with a discount, as CartPole goes on until it falls, and faster targets.

    Values near 1 / (1 - gamma) have to grow through the target critics, tau at a time: with tau 0.005 they are still
    too small after 40,000 updates to tell a cart that drifts from one that stands.
    """
    sizes = SIZES | {"hidden": 128}
    return SacParams(**sizes, batch_size=128, gamma=0.99, tau=0.05, alpha_start=1.0)


def continuous_params() -> ContinuousSacParams:
    """Return the defaults of stable-baselines3's SAC but for sizes, rate and batch."""
    return ContinuousSacParams(**SIZES, batch_size=128, gamma=0.99, alpha_start=1.0)


def learn_discrete(steps: int, seed: int, warmup: int) -> Learned:
    """Run discrete SAC on CartPole: ``steps`` steps, the first ``warmup`` uniform and without updates."""
    env = gymnasium.make(CARTPOLE)
    agent = DiscreteSAC(4, 2, discrete_params(), seed)
    allowed = np.ones(2, dtype=bool)

    def act(observation: np.ndarray, warm: bool) -> int:
        return int(agent.rng.integers(2)) if warm else agent.act(observation, allowed)

    def keep(observation: np.ndarray, action: int, reward: float, after: np.ndarray, ended: bool) -> None:
        rewards = np.array([reward], dtype=np.float32)
        last = None if ended else (after, allowed)
        agent.replay.add_episode(observation[None], np.array([action]), rewards, allowed[None], last)

    returns = drive(env, act, keep, agent.update, steps, warmup, seed)
    return Learned(lambda observation: agent.act(observation, allowed, greedy=True), returns)


def learn_continuous(steps: int, seed: int, warmup: int) -> Learned:
    """Run continuous SAC on Pendulum; its torque is twice the action in (-1, 1)."""
    env = gymnasium.make(PENDULUM)
    agent = ContinuousSAC(3, 1, continuous_params(), seed)

    def act(observation: np.ndarray, warm: bool) -> np.ndarray:
        return 2 * (agent.rng.uniform(-1, 1, 1).astype(np.float32) if warm else agent.act(observation))

    def keep(observation: np.ndarray, action: np.ndarray, reward: float, after: np.ndarray, ended: bool) -> None:
        rewards = np.array([reward], dtype=np.float32)
        last = None if ended else (after, None)
        agent.replay.add_episode(observation[None], action[None] / 2, rewards, last=last)

    returns = drive(env, act, keep, agent.update, steps, warmup, seed)
    return Learned(lambda observation: 2 * agent.act(observation, greedy=True), returns)


def drive(env: gymnasium.Env, act: Any, keep: Any, update: Any, steps: int, warmup: int, seed: int) -> list[float]:
    """Run the loop of off-policy learning, an update a step; a time limit ends an episode but not its value."""
    returns: list[float] = []
    observation, _ = env.reset(seed=seed)
    total = 0.0
    for step in range(steps):
        action = act(observation, step < warmup)
        after, reward, terminated, truncated, _ = env.step(action)
        keep(observation, action, float(reward), after, terminated)
        total += float(reward)
        observation = after
        if terminated or truncated:
            returns.append(total)
            observation, total = env.reset()[0], 0.0
        if step >= warmup:
            update()
    return returns


def learn_reference(steps: int, seed: int, warmup: int) -> Learned:
    """Run stable-baselines3's SAC on Pendulum with the same parameters as ours."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.monitor import Monitor

    env = Monitor(gymnasium.make(PENDULUM))
    ours = continuous_params()
    model = SAC(
        "MlpPolicy",
        env,
        learning_rate=ours.learning_rate,
        buffer_size=ours.replay_capacity,
        learning_starts=warmup,
        batch_size=ours.batch_size,
        tau=ours.tau,
        gamma=ours.gamma,
        policy_kwargs={"net_arch": [ours.hidden, ours.hidden]},
        seed=seed,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))  # its own leaves a folder in the temporary folder
    model.learn(steps)
    return Learned(lambda observation: model.predict(observation, deterministic=True)[0], env.get_episode_rewards())


def greedy_returns(env_id: str, act: Act, episodes: int) -> list[float]:
    """Return undiscounted returns of ``episodes`` greedy episodes, the same starts at every call."""
    env = gymnasium.make(env_id)
    found = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=EVALUATION_SEED + episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


class Side(NamedTuple):
    """One learner over all seeds."""

    samples: list[Sample]  # time of learning, per seed
    greedy: list[list[float]]  # [seeds][episodes]
    detail: list[dict[str, Any]]

    @property
    def means(self) -> list[float]:
        """Mean greedy return of each seed."""
        return [statistics.fmean(returns) for returns in self.greedy]


def side(name: str, env_id: str, learn: Callable[[int, int, int], Learned], steps: int, args: Any) -> Side:
    """Learn with every seed, then play greedily."""
    made = Side([], [], [])
    for seed in args.seeds:
        sample = timed(lambda seed=seed: learn(steps, seed, args.warmup))
        returns = greedy_returns(env_id, sample.value.act, args.episodes)
        made.samples.append(sample)
        made.greedy.append(returns)
        met = [round(value, 2) for value in sample.value.returns]
        made.detail.append({"seed": seed, "greedy": [round(value, 2) for value in returns], "while_learning": met})
        log.info("%s, seed %d: mean greedy return %.1f, %.0f s", name, seed, statistics.fmean(returns), sample.wall_s)
    return made


def listed(values: Sequence[float]) -> str:
    """Return the returns of episodes in one phrase."""
    return ", ".join(f"{value:.1f}" for value in values)


def measure_discrete(args: argparse.Namespace, command: str, piece: Piece) -> None:
    """Measure CartPole: the mean over seeds beside the largest possible return, with every seed's own in the note."""
    ours = side("discrete SAC", CARTPOLE, learn_discrete, args.discrete_steps, args)
    threshold = gymnasium.spec(CARTPOLE).reward_threshold or BEST
    solved = sum(mean >= threshold for mean in ours.means)
    note = f"seeds: {listed(ours.means)}; {solved} of {len(ours.means)} reach the task's threshold of {threshold:g}"
    what = f"discrete SAC on {CARTPOLE}, {args.discrete_steps} steps: greedy return, beside the largest possible"
    piece.rows.append(row(what, statistics.fmean(ours.means), BEST, "return", command, note))
    piece.detail["discrete"] = ours.detail


def measure_continuous(args: argparse.Namespace, command: str, piece: Piece) -> None:
    """Measure Pendulum: means over seeds of both learners, and the time that learning took."""
    ours = side("continuous SAC", PENDULUM, learn_continuous, args.continuous_steps, args)
    theirs = side("stable-baselines3", PENDULUM, learn_reference, args.continuous_steps, args)
    note = f"seeds: {listed(ours.means)}; stable-baselines3: {listed(theirs.means)}; less below zero is better"
    what = f"continuous SAC on {PENDULUM}, {args.continuous_steps} steps"
    means = (statistics.fmean(ours.means), statistics.fmean(theirs.means))
    piece.rows.append(row(f"{what}: greedy return", *means, "return", command, note))
    note = f"median of {len(args.seeds)} seeds; the environment's own time included"
    piece.rows.append(compared(f"{what}: time to learn", ours.samples, theirs.samples, command, note))
    piece.keep("time to learn", ours.samples, theirs.samples)
    piece.detail |= {"continuous": ours.detail, "stable-baselines3": theirs.detail}


def measure(args: argparse.Namespace) -> Piece:
    """Measure the tasks that were asked for."""
    command = command_line("benchmarks.sac_reference", args)
    piece = Piece("benchmarks")
    if CARTPOLE in args.tasks:
        measure_discrete(args, command, piece)
    if PENDULUM in args.tasks:
        measure_continuous(args, command, piece)
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Our SAC on control tasks with known returns.", repeats=None)
    options.add_argument("--tasks", nargs="+", choices=(CARTPOLE, PENDULUM), default=[CARTPOLE, PENDULUM], help="which")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of every learner")
    options.add_argument("--discrete-steps", type=int, default=30_000, help=f"steps of {CARTPOLE}")
    options.add_argument("--continuous-steps", type=int, default=12_000, help=f"steps of {PENDULUM}")
    options.add_argument("--warmup", type=int, default=100, help="uniform steps before the first update")
    options.add_argument("--episodes", type=int, default=20, help="greedy episodes per seed")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    measure(args).write(args.out, {name: version(name) for name in ("gymnasium", "stable-baselines3")})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
