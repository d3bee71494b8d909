"""RAMP's agent: discrete SAC over the linears of a model; every addition to the paper's scheme is a switch.

``ramp.agent.params`` documents the switches; the paper-faithful variant (baselines/ramp_paper.py) turns them all off.
One episode proposes an allocation, executes it in the environment (one true evaluation, or a part of one), stores
what was executed, and learns by a few gradient steps. The search ends with two results: the policy's own greedy
allocation, which is what transfers, and the best allocation on selection text among the warm start and the best few on
search text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ramp.agent.params import RampParams
from ramp.agent.text_schedule import TextSchedule
from ramp.allocators import knapsack
from ramp.allocators.greedy import repair
from ramp.problem.features import SIZE, feature_mask
from ramp.problem.problem import Allocation, Problem, Run, choose
from ramp.rl.additive_critic import AdditiveSurrogate
from ramp.rl.environment import AllocationEnv, Steps
from ramp.rl.history import History
from ramp.rl.policy import Policy
from ramp.rl.reward import shaping_costs
from ramp.rl.sac_discrete import Demonstrations, DiscreteSAC


class Agent:
    """State of one search.

    Raises:
        AllocationError: the budget cannot be met, or ``run.evals`` is too small.
    """

    def __init__(self, problem: Problem, params: RampParams, run: Run) -> None:
        self.problem, self.params, self.run = problem, params, run
        self.history = History(problem, run, params.reward)
        self.text = TextSchedule(problem, run.evals, params.pool_windows > 0)
        self.rng = np.random.default_rng([run.seed, 0xA11])
        self.learner = DiscreteSAC(SIZE, len(problem.widths), params.sac, run.seed)
        self.feature_mask = feature_mask(params.embedding)
        proxy = problem.use_proxy() if params.uses_proxy else None
        self.surrogate = None if proxy is None else AdditiveSurrogate(proxy, problem.linears, params.surrogate)
        self.start = self.knapsack(proxy) if proxy is not None and params.warm_start else None
        if self.surrogate is not None and self.text.pooled:
            self.surrogate.reference = self.start
        shaping = None
        if proxy is not None and params.shaping:
            shaping = shaping_costs(proxy, problem.bytes, problem.budget_bytes)
        self.env = self.env_at(None, masked=params.masked, shaping=shaping)
        self.demonstrations: Demonstrations | None = None
        if params.clone_steps or params.clone_weight:
            self.renew_demonstrations()

    @property
    def episode(self) -> int:
        """Number of episodes so far."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Return whether the evaluations are spent; the policy's own allocation was the last."""
        return self.text.done

    def env_at(
        self, budget_bytes: int | None, *, masked: bool = True, shaping: np.ndarray | None = None
    ) -> AllocationEnv:
        """Return an environment of this problem at a budget in bytes (None: the problem's own)."""
        return AllocationEnv(self.text.problem, self.params.reward, masked, shaping, budget_bytes, self.feature_mask)

    def knapsack(self, costs: np.ndarray) -> np.ndarray:
        """Return the allocation [n] of least additive cost, from costs [n, w], within the budget."""
        problem = self.problem
        return problem.distinct(knapsack.solve(problem.shared(costs), problem.bytes, problem.budget_bytes))

    # -- propose -----------------------------------------------------------------------------------------------

    def propose(self) -> tuple[np.ndarray, str]:
        """Return the next allocation to evaluate, and the name of its proposer."""
        if self.start is not None and (self.episode == 0 or self.text.anchoring):
            return self.start, "start"
        if self.text.last:
            if self.params.distil_steps:
                self.renew_demonstrations()
                if self.demonstrations is not None:
                    self.learner.clone(self.demonstrations, self.params.distil_steps)
            return self.greedy(), "policy"
        if self.surrogate is not None and self.rng.random() < self.params.critic_knapsack:
            for _ in range(4):  # a sharp posterior repeats itself: an allocation is worth evaluating once
                choice = self.knapsack(self.surrogate.sample(self.rng, self.params.knapsack_spread))
                if not self.history.knows(choice):
                    return choice, "knapsack"
        follow = self.params.follow if self.history.best() is not None else 0.0
        while True:
            choice = self.roll_out(follow)
            if follow == 0.0 or not self.history.knows(choice):
                return choice, "actor"
            follow = follow - 0.1 if follow > 0.1 else 0.0

    def roll_out(self, follow: float) -> np.ndarray:
        """Return one exploring pass [n]; each linear keeps the incumbent's width with probability ``follow``."""
        policy, centre = self.policy(), self.incumbent() if follow else None
        uniform = self.start is None and self.episode < self.params.warmup_episodes

        def act(index: int, observation: np.ndarray, mask: np.ndarray) -> int:
            if centre is not None and self.rng.random() < follow and mask[centre[index]]:
                return int(centre[index])
            if uniform:
                return int(self.rng.choice(np.flatnonzero(mask)))
            chances = np.where(mask, np.exp(policy.log_chances(observation, mask)), 0.0)
            return int(self.rng.choice(len(chances), p=chances / chances.sum()))

        choice = self.problem.distinct(self.env.walk(act).actions)
        if not self.params.projection:
            return choice
        # to the exact budget, by the additive critic's prices or, without one, by those of the policy's greedy pass
        prices = policy.prices(policy.greedy(self.env)) if self.surrogate is None else self.surrogate.mean()
        problem = self.problem
        fitted = repair(
            choice, problem.shared(prices), problem.bytes, problem.budget_bytes, always=self.surrogate is None
        )
        return problem.distinct(fitted)

    def greedy(self) -> np.ndarray:
        """Return the policy's own allocation [n]: masked, so that it meets the budget; leftover bytes are spent."""
        return self.problem.distinct(self.policy().allocation(self.env_at(None)))

    def policy(self) -> Policy:
        """Return the actor as it is now; its first layer ignores the features that are masked."""
        (weight, bias), *rest = self.learner.actor_layers()
        return self.history.policy([(weight * self.feature_mask, bias), *rest])

    def incumbent(self) -> np.ndarray | None:
        """Return what is explored around: the best allocation so far, or the knapsack on the additive critic's mean."""
        if self.params.incumbent == "mean" and self.surrogate is not None:
            return self.knapsack(self.surrogate.mean())
        return self.history.best()

    # -- execute, store, learn ---------------------------------------------------------------------------------

    def play_episode(self) -> None:
        """Propose, execute, store, learn and log one episode."""
        choice, proposer = self.propose()
        text = self.text.take(self.rng)
        steps, info = self.env.play(choice)
        self.store(steps, info, text)
        self.history.log(proposer, info, self.learn())

    def store(self, steps: Steps, info: dict[str, Any], text: int) -> None:
        """Keep an executed episode in the replay, the history and, where it can be compared, the additive critic."""
        score, reward = info["score"], self.params.reward
        self.learner.replay.add_episode(steps.observations, steps.actions, steps.rewards, steps.masks)
        # beyond the reward's cap the model is destroyed: infeasible, and an additive critic can learn nothing from it
        usable = bool(max(score.kl, score.nll - self.problem.nll_float) < reward.quality_cap)
        # while the start is scored part by part, its loss is a mean over some of them: the last one is over all
        comparable = not self.text.anchoring
        self.history.add(info, usable and self.problem.is_feasible(steps.actions), comparable)
        if self.surrogate is not None and usable and comparable:
            self.surrogate.add(steps.actions, score.kl, text)

    @property
    def updates(self) -> int:
        """Gradient steps of one episode."""
        most, total = self.params.updates_per_episode, self.params.updates_total
        return min(most, -(-total // self.run.evals)) if total else most

    def learn(self) -> dict[str, float]:
        """Update the networks a few times and return the last losses; the target entropy falls over the search."""
        params = self.params
        if self.demonstrations is not None and self.episode % params.refresh == 0:
            self.renew_demonstrations()
        if self.episode < params.warmup_episodes or self.done:  # the last episode was the policy that is saved
            return {}
        rho = params.sac.rho_start + (params.sac.rho_end - params.sac.rho_start) * self.text.spent / self.run.evals
        scale, offset = self.history.scale(params.warmup_episodes)
        stats: dict[str, float] = {}
        for _ in range(self.updates):
            stats = self.learner.update(
                rho,
                reward_scale=scale,
                return_offset=offset,
                clone=self.demonstrations,
                clone_weight=params.clone_weight,
            )
        return stats

    def renew_demonstrations(self) -> None:
        """Make the demonstrations from the additive critic as it is now; clone the actor on the first ones.

        They are the states and actions along knapsacks on the critic's mean at several budgets, and along the
        incumbent. They teach the actor through the eleven numbers alone what the critic knows, so that a policy can go
        to another model without that model's gradients. They are not in the replay: their true losses are not known.
        """
        if self.surrogate is None:
            return
        problem, first = self.problem, self.demonstrations is None
        budgets = [problem.bytes_at(problem.budget_bits + offset) for offset in self.params.clone_offsets]
        least = int(problem.bytes.min(axis=1).sum())
        costs = problem.shared(self.surrogate.mean())
        kept = [budget for budget in budgets if budget >= least]
        pairs = [(problem.distinct(knapsack.solve(costs, problem.bytes, budget)), budget) for budget in kept]
        centre = self.incumbent() if self.history.best() is not None else None
        if centre is not None:
            pairs.append((centre, problem.budget_bytes))
        if pairs:
            walks = [self.env_at(budget).follow(choice)[:3] for choice, budget in pairs]
            self.demonstrations = Demonstrations(*(np.concatenate(parts) for parts in zip(*walks, strict=True)))
            if first:
                self.learner.clone(self.demonstrations, self.params.clone_steps)

    # -- finish ------------------------------------------------------------------------------------------------

    def finish(self) -> Allocation:
        """Save the policy and choose on selection text among the warm start and the best episodes."""
        self.policy().save(self.run.out_dir)
        greedy = self.greedy()
        candidates = self.history.finalists(self.params.finalists, self.start)
        # without a mask only the last episode, the policy's own, was made to meet the budget
        own = self.history.feasible if self.params.masked else self.history.feasible[:-1]
        if not own.any() or not candidates:
            note = f"no feasible episode in {len(own)}: the policy's greedy allocation under the feasibility mask"
            return Allocation(greedy, "policy", greedy, projected=True, notes=note)
        choice, where = choose(self.problem, candidates, self.params.reward.quality)
        stands = self.start is not None and where == 0
        note = "the warm start stands: no finalist beat it on selection text" if stands else ""
        projected = not self.params.masked and np.array_equal(choice, greedy)
        self.text.score_whole(choice, self.start, greedy)
        return Allocation(choice, "best", greedy, self.start, projected=projected, notes=note)
