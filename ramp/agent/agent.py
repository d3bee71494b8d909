"""RAMP's search: a discrete SAC agent over the linears, with every addition to the paper's scheme as a switch.

``ramp.agent.params`` documents the switches; the paper-faithful variant (baselines/ramp_paper.py) turns them all
off. One episode is: propose an allocation, execute it in the environment (one true evaluation, or a part of one),
store what was executed, take a few gradient steps, checkpoint. Two results are kept apart: the policy's own greedy
allocation, which is what transfers, and the best allocation found, chosen among a few finalists and the warm start
on selection text (``ramp.agent.finalists``).
"""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch

from ramp.agent import demonstrations as teaching
from ramp.agent import finalists as finals
from ramp.agent.params import RampParams
from ramp.agent.proposals import mirrored_swaps
from ramp.agent.text_schedule import Turns
from ramp.allocators import knapsack
from ramp.allocators.greedy import repair
from ramp.problem.features import SIZE
from ramp.problem.problem import Allocation, AllocationError, Problem, Run, choose
from ramp.rl.environment import AllocationEnv, shaping_costs
from ramp.rl.feature_mask import VeiledEnv, veil, veiled_layers
from ramp.rl.history import episode_row
from ramp.rl.policy import Policy
from ramp.rl.sac import Demonstrations, DiscreteSAC
from ramp.rl.surrogate import AdditiveSurrogate

log = logging.getLogger(__name__)


def search(problem: Problem, params: RampParams, run: Run) -> Allocation:
    """Spend ``run.evals`` evaluations and return the allocation; writes ``policy.*`` into ``run.out_dir``."""
    if run.evals < 3:
        raise AllocationError(f"a learned search needs at least 3 evaluations, {run.evals} were given: raise --evals")
    problem.check_budget()
    agent = Agent(problem, params, run)
    saved = run.load()
    if saved is not None:
        agent.load_state_dict(saved)
        log.info("resuming after episode %d", agent.episode)
    while not agent.done:
        agent.play_episode()
        run.save(agent.state_dict())
    return agent.finish()


class Agent:
    """State of one search; everything that the next episode depends on is in ``state_dict``."""

    def __init__(self, problem: Problem, params: RampParams, run: Run) -> None:
        self.problem, self.params, self.run = problem, params, run
        self.turns = Turns(problem, run.evals, params.pool_windows > 0)
        proxy = problem.use_proxy() if params.uses_proxy else None
        self.shown = veil(params.embedding)
        self.shaping = (
            shaping_costs(proxy, problem.bytes, problem.budget_bytes) if proxy is not None and params.shaping else None
        )
        self.env = self.env_at(None, masked=params.masked, shaping=self.shaping)
        self.learner = DiscreteSAC(SIZE, len(problem.widths), params.sac, run.seed)
        self.surrogate = None if proxy is None else AdditiveSurrogate(proxy, problem.linears, params.surrogate)
        self.rng = np.random.default_rng([run.seed, 0xA11])
        self.start = (
            None
            if proxy is None or not params.warm_start
            else knapsack.solve(proxy, problem.bytes, problem.budget_bytes)
        )
        if self.surrogate is not None and self.turns.pooled:
            self.surrogate.reference = self.start
        # one entry per episode
        self.choices = np.zeros((0, problem.n), dtype=np.int64)
        self.returns = np.zeros(0)
        self.losses = np.zeros(0)  # what finalists are ranked by: KL, or NLL where the reward is the perplexity's
        self.kls = np.zeros(0)
        self.feasible = np.zeros(0, dtype=bool)
        self.scale, self.offset = 1.0, 0.0
        self.mirror = np.zeros((0, problem.n), dtype=np.int64)  # the exchange that is owed its mirror image
        self.taught = np.zeros((0, problem.n), dtype=np.int64)  # allocations whose trajectories are cloned
        self.taught_budgets = np.zeros(0, dtype=np.int64)
        self.demonstrations: Demonstrations | None = None
        if run.evals and params.uses_proxy and (params.clone_steps or params.clone_weight):
            self.renew_demonstrations()

    @property
    def episode(self) -> int:
        """Episodes played."""
        return len(self.returns)

    @property
    def done(self) -> bool:
        """Whether the evaluations are spent; the policy's own allocation was the last."""
        return self.turns.done

    def env_at(
        self, budget_bytes: int | None, *, masked: bool = True, shaping: np.ndarray | None = None
    ) -> AllocationEnv:
        """An environment of this problem at a budget (None: its own), showing what the policy may see."""
        return VeiledEnv(
            self.turns.problem, self.params.reward, masked, shaping, budget_bytes, shown=self.shown
        )  # fmt: skip

    # -- proposing ---------------------------------------------------------------------------------------------

    def propose(self) -> tuple[np.ndarray, str, AllocationEnv]:
        """The next allocation to evaluate, who proposed it, and the environment to execute it in."""
        if self.start is not None and (self.episode == 0 or self.turns.anchoring):
            return self.start, "start", self.env
        if self.turns.last:
            if self.params.distil_steps:
                self.renew_demonstrations()
            if self.demonstrations is not None:
                self.learner.clone(self.demonstrations, self.params.distil_steps)
            return self.greedy(), "policy", self.env
        if len(self.mirror):
            choice, self.mirror = self.mirror[0], self.mirror[:0]
            return choice, "mirror", self.env
        if self.params.swap_share and self.rng.random() < self.params.swap_share:
            centre = self.incumbent()
            found = None if centre is None else mirrored_swaps(centre, self.problem.bytes, self.params.swaps, self.rng)
            if found is not None:
                self.mirror = found[1][None]
                return found[0], "swap", self.env
        if self.surrogate is not None and self.rng.random() < self.params.critic_knapsack:
            for _ in range(4):  # a sharp posterior repeats itself: an allocation is worth evaluating once
                theta = self.surrogate.sample(self.rng, self.params.knapsack_spread)
                choice = self.surrogate.solve(theta, self.problem.bytes, self.problem.budget_bytes)
                if not self.is_known(choice):
                    return choice, "knapsack", self.env
        env = self.env
        if self.params.budget_share and self.rng.random() < self.params.budget_share:
            env = self.elsewhere()
        follow = self.params.follow if len(self.ranked()) else 0.0
        while True:
            choice = self.roll_out(follow, env)
            if not self.is_known(choice) or follow == 0.0:
                return choice, "actor", env
            follow = follow - 0.1 if follow > 0.1 else 0.0

    def elsewhere(self) -> AllocationEnv:
        """An environment at a budget drawn from ``clone_offsets``; its bytes are never below the cheapest's."""
        bits = self.problem.budget_bits + float(self.rng.choice(self.params.clone_offsets))
        budget = max(self.problem.budget_bytes_at(bits), int(self.problem.bytes.min(axis=1).sum()))
        return self.env_at(budget, masked=self.params.masked, shaping=self.shaping)

    def is_known(self, choice: np.ndarray) -> bool:
        """Whether this allocation was evaluated before."""
        return bool((self.choices == choice).all(axis=1).any())

    def roll_out(self, follow: float, env: AllocationEnv) -> np.ndarray:
        """One exploring pass of the policy; with ``follow``, around the incumbent."""
        policy, centre = self.policy(), self.incumbent() if follow else None
        uniform = self.start is None and self.episode < self.params.warmup_episodes

        def act(index: int, observation: np.ndarray, mask: np.ndarray) -> int:
            if centre is not None and self.rng.random() < follow and mask[centre[index]]:
                return int(centre[index])
            if uniform:
                return int(self.rng.choice(np.flatnonzero(mask)))
            chances = np.where(mask, np.exp(policy.log_chances(observation, mask)), 0.0)
            return int(self.rng.choice(len(chances), p=chances / chances.sum()))

        steps = env.walk(act)
        return self.project(steps.actions, env) if self.params.projection else steps.actions

    def greedy(self) -> np.ndarray:
        """The policy's own allocation: masked, so that it meets the budget, and repaired by its own preferences."""
        env = self.env_at(None)
        return self.policy().likeliest(env) if self.params.policy_knapsack else self.policy().allocation(env)

    def project(self, choice: np.ndarray, env: AllocationEnv) -> np.ndarray:
        """Bring an allocation to the exact budget, by the additive critic's prices or, without one, the policy's."""
        prices = self.surrogate.mean() if self.surrogate is not None else self.policy_prices()
        return repair(choice, prices, self.problem.bytes, env.bytes.budget, always=self.surrogate is None)

    def policy_prices(self) -> np.ndarray:
        """Minus the policy's log-probabilities along its greedy pass, [n, w]."""
        policy = self.policy()
        steps = policy.greedy(self.env)
        return -policy.log_chances(steps.observations, np.ones_like(steps.masks))

    def policy(self) -> Policy:
        """The actor as it stands."""
        about = {
            "model": self.problem.model,
            "method": self.run.method,
            "budgets": [self.problem.budget_bits],
            "seed": self.run.seed,
            "episodes": self.episode,
        }
        return Policy(veiled_layers(self.learner.actor_layers(), self.shown), self.problem.widths, about)

    def best(self) -> np.ndarray | None:
        """The best feasible allocation on search text, or None."""
        ranked = self.ranked()
        return self.choices[ranked[0]] if len(ranked) else None

    def incumbent(self) -> np.ndarray | None:
        """What is explored around: the best allocation seen, or the knapsack on the critic's mean."""
        if self.params.incumbent == "mean" and self.surrogate is not None:
            return self.surrogate.solve(self.surrogate.mean(), self.problem.bytes, self.problem.budget_bytes)
        return self.best()

    def ranked(self) -> np.ndarray:
        """Episodes with a feasible, finite outcome, best first, each allocation once."""
        usable = np.flatnonzero(self.feasible & np.isfinite(self.losses))
        usable = usable[np.argsort(self.losses[usable], kind="stable")]
        _, first = np.unique(self.choices[usable], axis=0, return_index=True)
        return usable[np.sort(first)]

    # -- learning ----------------------------------------------------------------------------------------------

    def play_episode(self) -> None:
        """Propose, execute, store, learn, log."""
        warm_before = self.episode < self.params.warmup_episodes
        choice, proposer, env = self.propose()
        text = self.turns.take(self.rng)
        steps, info = env.play(choice)
        score, terms = info["score"], info["terms"]
        self.learner.replay.add_episode(steps.observations, steps.masks, steps.actions, steps.rewards)
        self.choices = np.vstack([self.choices, steps.actions])
        self.returns = np.append(self.returns, terms["total"])
        self.losses = np.append(self.losses, score.kl if self.params.reward.quality == "kl" else score.nll)
        self.kls = np.append(self.kls, score.kl)
        # beyond the reward's cap nothing is left of the model: infeasible, and no lesson for an additive critic
        sane = bool(max(score.kl, score.nll - self.problem.nll_float) < self.params.reward.quality_cap)
        self.feasible = np.append(self.feasible, sane and self.problem.is_feasible(steps.actions))
        if self.surrogate is not None and self.turns.compares and sane:
            self.surrogate.add(steps.actions, score.kl, text)
        if warm_before and self.episode >= self.params.warmup_episodes:
            finite = self.returns[self.returns > -self.params.reward.k_q * self.params.reward.quality_cap]
            self.offset = float(np.mean(finite)) if len(finite) else 0.0
            self.scale = 1.0 / max(float(np.std(finite)) if len(finite) > 1 else 1.0, 1e-6)
        if self.demonstrations is not None and self.episode % self.params.refresh == 0:
            self.renew_demonstrations()
        # the last episode is the policy's own: what was evaluated is what is saved
        learned = self.learn() if self.params.warmup_episodes <= self.episode and not self.done else {}
        best = self.ranked()
        kl_best = self.kls[best[0]] if len(best) else None
        self.run.log(episode_row(proposer, info, bool(self.feasible[-1]), kl_best, learned))

    @property
    def updates(self) -> int:
        """Gradient steps of one episode."""
        most, total = self.params.updates_per_episode, self.params.updates_total
        return min(most, -(-total // self.run.evals)) if total else most

    def learn(self) -> dict[str, float]:
        """A few updates; the target entropy falls over the search."""
        sac = self.params.sac
        rho = sac.rho_start + (sac.rho_end - sac.rho_start) * self.turns.spent / max(self.run.evals, 1)
        told: dict[str, float] = {}
        for _ in range(self.updates):
            told = self.learner.update(
                rho,
                reward_scale=self.scale,
                return_offset=self.offset,
                clone=self.demonstrations,
                clone_weight=self.params.clone_weight,
            )
        return told

    def renew_demonstrations(self) -> None:
        """Solve knapsacks on the additive critic at several budgets; clone the actor on the first ones."""
        if self.surrogate is None:
            return
        taught, budgets = teaching.knapsacks(self.problem, self.surrogate, self.params.clone_offsets)
        centre = self.incumbent() if len(self.ranked()) else None
        if centre is not None:
            budgets.append(self.problem.budget_bytes)
            taught.append(centre)
        first = self.demonstrations is None
        self.taught, self.taught_budgets = np.array(taught), np.array(budgets, dtype=np.int64)
        self.demonstrations = teaching.demonstrations(self.taught, self.taught_budgets, self.env_at)
        if first and self.demonstrations is not None:
            self.learner.clone(self.demonstrations, self.params.clone_steps)

    # -- ending ------------------------------------------------------------------------------------------------

    def finalists(self) -> list[np.ndarray]:
        """Allocations to choose among: the start first, where there is one; each once."""
        found = [self.choices[row] for row in self.ranked()[: self.params.finalists]]
        if self.surrogate is not None:
            mean = self.surrogate.mean()
            for share in self.params.mean_finalists:
                theta = (1 - share) * mean + share * self.surrogate.proxy
                found.append(self.surrogate.solve(theta, self.problem.bytes, self.problem.budget_bytes))
        found = found if self.start is None else [self.start, *found]
        kept: list[np.ndarray] = []
        for choice in found:
            if not any(np.array_equal(choice, other) for other in kept):
                kept.append(choice)
        return kept

    def finish(self) -> Allocation:
        """Choose on selection text among the finalists and the start; save the policy."""
        self.policy().save(self.run.out_dir)
        greedy = self.greedy()
        candidates = self.finalists()
        own = self.feasible if self.params.masked else self.feasible[:-1]  # the last one was made to fit
        if not own.any() or not candidates:
            said = f"no feasible episode in {len(own)}: the policy's greedy allocation under the feasibility mask"
            return Allocation(greedy, "policy", greedy, projected=True, notes=said)
        if self.params.selection_windows:
            choice, where, said = finals.choose_on_parts(self.problem, candidates, self.params, self.run.seed)
        else:
            choice, where = choose(self.problem, candidates, self.params.reward.quality)
            said = "the warm start stands: no finalist beat it on selection text"
        said = said if self.start is not None and (where == 0 or self.params.selection_windows) else ""
        projected = not self.params.masked and np.array_equal(choice, greedy)
        self.turns.settle(choice, self.start, greedy)
        return Allocation(choice, "best", greedy, self.start, projected=projected, notes=said)

    def state_dict(self) -> dict[str, Any]:
        """For ``torch.save``; loadable with ``weights_only=True``."""
        arrays = ("choices", "returns", "losses", "kls", "feasible", "mirror", "taught", "taught_budgets")
        observed = ("choices", "losses", "texts")
        return {
            "learner": self.learner.state_dict(),
            "arrays": {name: torch.from_numpy(getattr(self, name).copy()) for name in arrays},
            "rng": json.dumps(self.rng.bit_generator.state),
            "scale": self.scale,
            "offset": self.offset,
            "turns": self.turns.state_dict(),
            "observed": None
            if self.surrogate is None
            else {name: torch.from_numpy(getattr(self.surrogate, name).copy()) for name in observed},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.learner.load_state_dict(state["learner"])
        for name, values in state["arrays"].items():
            setattr(self, name, values.numpy())
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.scale, self.offset = state["scale"], state["offset"]
        self.turns.load_state_dict(state["turns"])
        if self.surrogate is not None:
            self.surrogate.observe(**{name: values.numpy() for name, values in state["observed"].items()})
        self.demonstrations = teaching.demonstrations(self.taught, self.taught_budgets, self.env_at)
