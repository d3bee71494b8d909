"""RAMP's search: a discrete SAC agent over the linears, with every addition to the paper's scheme as a switch.

``ramp.switches`` documents the switches; the paper-faithful variant (baselines/ramp_paper.py) turns them all off. One
episode is: propose an allocation, execute it in the environment (one true evaluation), store what was executed,
take a few gradient steps, checkpoint. Two results are kept apart: the policy's own greedy allocation, which is what
transfers, and the best allocation found, chosen among a few finalists and the warm start on selection text.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch

from ramp.allocators import knapsack
from ramp.allocators.greedy import repair
from ramp.embedding import SIZE
from ramp.environment import AllocationEnv, shaping_costs
from ramp.policy import Policy
from ramp.problem import Allocation, AllocationError, Problem, Run, choose
from ramp.sac import Demonstrations, DiscreteSAC
from ramp.surrogate import AdditiveSurrogate
from ramp.switches import RampParams

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
    while agent.episode < run.evals:
        agent.play_episode()
        run.save(agent.state_dict())
    return agent.finish()


class Agent:
    """State of one search; everything that the next episode depends on is in ``state_dict``."""

    def __init__(self, problem: Problem, params: RampParams, run: Run) -> None:
        self.problem, self.params, self.run = problem, params, run
        proxy = problem.use_proxy() if params.uses_proxy else None
        shaping = (
            shaping_costs(proxy, problem.bytes, problem.budget_bytes) if proxy is not None and params.shaping else None
        )
        self.env = AllocationEnv(problem, params.reward, params.masked, shaping)
        self.learner = DiscreteSAC(SIZE, len(problem.widths), params.sac, run.seed)
        self.surrogate = None if proxy is None else AdditiveSurrogate(proxy, problem.linears, params.surrogate)
        self.rng = np.random.default_rng([run.seed, 0xA11])
        self.start = (
            None
            if proxy is None or not params.warm_start
            else knapsack.solve(proxy, problem.bytes, problem.budget_bytes)
        )
        # one entry per episode
        self.choices = np.zeros((0, problem.n), dtype=np.int64)
        self.returns = np.zeros(0)
        self.losses = np.zeros(0)  # what finalists are ranked by: KL, or NLL where the reward is the perplexity's
        self.kls = np.zeros(0)
        self.feasible = np.zeros(0, dtype=bool)
        self.scale, self.offset = 1.0, 0.0
        self.taught = np.zeros((0, problem.n), dtype=np.int64)  # allocations whose trajectories are cloned
        self.taught_budgets = np.zeros(0, dtype=np.int64)
        self.demonstrations: Demonstrations | None = None
        if run.evals and params.uses_proxy and (params.clone_steps or params.clone_weight):
            self.renew_demonstrations()

    @property
    def episode(self) -> int:
        """Episodes played."""
        return len(self.returns)

    # -- proposing ---------------------------------------------------------------------------------------------

    def propose(self) -> tuple[np.ndarray, str]:
        """The next allocation to evaluate and who proposed it."""
        if self.episode == 0 and self.start is not None:
            return self.start, "start"
        if self.episode == self.run.evals - 1:
            if self.params.distil_steps:
                self.renew_demonstrations()
            if self.demonstrations is not None:
                self.learner.clone(self.demonstrations, self.params.distil_steps)
            return self.greedy(), "policy"
        if self.surrogate is not None and self.rng.random() < self.params.critic_knapsack:
            for _ in range(4):  # a sharp posterior repeats itself: an allocation is worth evaluating once
                theta = self.surrogate.sample(self.rng, self.params.knapsack_spread)
                choice = knapsack.solve(theta, self.problem.bytes, self.problem.budget_bytes)
                if not self.is_known(choice):
                    return choice, "knapsack"
        follow = self.params.follow if self.best() is not None else 0.0
        while True:
            choice = self.roll_out(follow)
            if not self.is_known(choice) or follow == 0.0:
                return choice, "actor"
            follow = follow - 0.1 if follow > 0.1 else 0.0

    def is_known(self, choice: np.ndarray) -> bool:
        """Whether this allocation was evaluated before."""
        return bool((self.choices == choice).all(axis=1).any())

    def roll_out(self, follow: float) -> np.ndarray:
        """One exploring pass of the policy; with ``follow``, around the best allocation found so far."""
        policy, best = self.policy(), self.best()
        uniform = self.start is None and self.episode < self.params.warmup_episodes

        def act(index: int, observation: np.ndarray, mask: np.ndarray) -> int:
            if best is not None and self.rng.random() < follow and mask[best[index]]:
                return int(best[index])
            if uniform:
                return int(self.rng.choice(np.flatnonzero(mask)))
            chances = np.where(mask, np.exp(policy.log_chances(observation, mask)), 0.0)
            return int(self.rng.choice(len(chances), p=chances / chances.sum()))

        steps = self.env.walk(act)
        return self.project(steps.actions) if self.params.projection else steps.actions

    def greedy(self) -> np.ndarray:
        """The policy's own allocation: masked, so that it meets the budget, and repaired by its own preferences."""
        return self.policy().allocation(AllocationEnv(self.problem, self.params.reward, masked=True))

    def project(self, choice: np.ndarray) -> np.ndarray:
        """Bring an allocation to the exact budget, by the additive critic's prices or, without one, the policy's."""
        prices = self.surrogate.mean() if self.surrogate is not None else self.policy_prices()
        return repair(choice, prices, self.problem.bytes, self.problem.budget_bytes, always=self.surrogate is None)

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
        return Policy(self.learner.actor_layers(), self.problem.widths, about)

    def best(self) -> np.ndarray | None:
        """The best feasible allocation on search text, or None."""
        ranked = self.ranked()
        return self.choices[ranked[0]] if len(ranked) else None

    def ranked(self) -> np.ndarray:
        """Episodes with a feasible, finite outcome, best first, each allocation once."""
        usable = np.flatnonzero(self.feasible & np.isfinite(self.losses))
        usable = usable[np.argsort(self.losses[usable], kind="stable")]
        _, first = np.unique(self.choices[usable], axis=0, return_index=True)
        return usable[np.sort(first)]

    # -- learning ----------------------------------------------------------------------------------------------

    def play_episode(self) -> None:
        """Propose, execute, store, learn, log."""
        choice, proposer = self.propose()
        steps, info = self.env.play(choice)
        score, terms = info["score"], info["terms"]
        self.learner.replay.add_episode(steps.observations, steps.masks, steps.actions, steps.rewards)
        self.choices = np.vstack([self.choices, steps.actions])
        self.returns = np.append(self.returns, terms["total"])
        self.losses = np.append(self.losses, score.kl if self.params.reward.quality == "kl" else score.nll)
        self.kls = np.append(self.kls, score.kl)
        self.feasible = np.append(self.feasible, info["feasible"])
        if self.surrogate is not None and np.isfinite(score.kl):
            self.surrogate.add(steps.actions, score.kl)
        if self.episode == self.params.warmup_episodes:
            finite = self.returns[self.returns > -self.params.reward.k_q * self.params.reward.quality_cap]
            self.offset = float(np.mean(finite)) if len(finite) else 0.0
            self.scale = 1.0 / max(float(np.std(finite)) if len(finite) > 1 else 1.0, 1e-6)
        if self.demonstrations is not None and self.episode % self.params.refresh == 0:
            self.renew_demonstrations()
        # the last episode is the policy's own: what was evaluated is what is saved
        learned = self.learn() if self.params.warmup_episodes <= self.episode < self.run.evals else {}
        best = self.ranked()
        self.run.log(
            {
                "proposer": proposer,
                "kl": score.kl,
                "ppl": score.ppl,
                "bytes": info["bytes"],
                "feasible": info["feasible"],
                "best": self.kls[best[0]] if len(best) else None,
                **{f"reward_{name}": value for name, value in terms.items()},
                **learned,
            }
        )

    def learn(self) -> dict[str, float]:
        """A few updates; the target entropy falls over the search."""
        sac = self.params.sac
        done = self.episode / max(self.run.evals, 1)
        rho = sac.rho_start + (sac.rho_end - sac.rho_start) * done
        told: dict[str, float] = {}
        for _ in range(self.params.updates_per_episode):
            told = self.learner.update(
                rho,
                reward_scale=self.scale,
                return_offset=self.offset,
                clone=self.demonstrations,
                clone_weight=self.params.clone_weight,
            )
        return told

    def renew_demonstrations(self) -> None:
        """Solve knapsacks on the additive critic at several budgets, and clone the actor on the first ones.

        They teach the actor what the critic knows through the eleven numbers alone, which is what lets a policy
        go to another model without that model's gradients. They are not put into the replay: their true losses
        are not known.
        """
        if self.surrogate is None:
            return
        theta = self.surrogate.mean()
        budgets, taught = [], []
        for offset in self.params.clone_offsets:
            budget = self.problem.budget_bytes_at(self.problem.budget_bits + offset)
            if budget >= int(self.problem.bytes.min(axis=1).sum()):
                budgets.append(budget)
                taught.append(knapsack.solve(theta, self.problem.bytes, budget))
        best = self.best()
        if best is not None:
            budgets.append(self.problem.budget_bytes)
            taught.append(best)
        first = self.demonstrations is None
        self.taught, self.taught_budgets = np.array(taught), np.array(budgets, dtype=np.int64)
        self.remember_demonstrations()
        if first and self.demonstrations is not None:
            self.learner.clone(self.demonstrations, self.params.clone_steps)

    def remember_demonstrations(self) -> None:
        """Walk the taught allocations through environments of their budgets, for the states on their way."""
        walks = []
        for choice, budget in zip(self.taught, self.taught_budgets, strict=True):
            env = AllocationEnv(self.problem, self.params.reward, masked=True, budget_bytes=int(budget))
            walks.append(env.walk(lambda index, observation, mask, choice=choice: choice[index]))
        if walks:
            columns = [np.concatenate(parts) for parts in zip(*[walk[:3] for walk in walks], strict=True)]
            self.demonstrations = Demonstrations(*columns)

    # -- ending ------------------------------------------------------------------------------------------------

    def finish(self) -> Allocation:
        """Choose on selection text among the finalists and the start; save the policy."""
        self.policy().save(self.run.out_dir)
        greedy = self.greedy()
        candidates = [self.choices[row] for row in self.ranked()[: self.params.finalists]]
        if self.start is not None:
            candidates = [self.start, *(x for x in candidates if not np.array_equal(x, self.start))]
        own = self.feasible if self.params.masked else self.feasible[:-1]  # the last one was made to fit
        if not own.any() or not candidates:
            said = f"no feasible episode in {len(own)}: the policy's greedy allocation under the feasibility mask"
            return Allocation(greedy, "policy", greedy, projected=True, notes=said)
        choice, where = choose(self.problem, candidates, self.params.reward.quality)
        stands = self.start is not None and where == 0
        said = "the warm start stands: no finalist beat it on selection text" if stands else ""
        projected = not self.params.masked and np.array_equal(choice, greedy)
        return Allocation(choice, "best", greedy, self.start, projected=projected, notes=said)

    def state_dict(self) -> dict[str, Any]:
        """For ``torch.save``; loadable with ``weights_only=True``."""
        arrays = ("choices", "returns", "losses", "kls", "feasible", "taught", "taught_budgets")
        return {
            "learner": self.learner.state_dict(),
            "arrays": {name: torch.from_numpy(getattr(self, name).copy()) for name in arrays},
            "rng": json.dumps(self.rng.bit_generator.state),
            "scale": self.scale,
            "offset": self.offset,
            "observed": None if self.surrogate is None else torch.from_numpy(self.surrogate.choices.copy()),
            "observed_losses": None if self.surrogate is None else torch.from_numpy(self.surrogate.losses.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.learner.load_state_dict(state["learner"])
        for name, values in state["arrays"].items():
            setattr(self, name, values.numpy())
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.scale, self.offset = state["scale"], state["offset"]
        if self.surrogate is not None:
            self.surrogate.choices = state["observed"].numpy()
            self.surrogate.losses = state["observed_losses"].numpy()
        self.remember_demonstrations()
