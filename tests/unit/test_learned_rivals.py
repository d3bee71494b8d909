"""PPO, discrete and continuous SAC as rivals: what they spend, what they leave, that they learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.problem.problem import AllocationError, Evaluator, Run
from ramp.rl.environment import AllocationEnv
from ramp.rl.history import History
from ramp.rl.policy import load_policy
from ramp.rl.reward import RewardParams, reward_terms
from ramp.scoring.score_type import Score
from tests.searchable import allocate
from tests.synthetic import synthetic_problem

RIVALS = ["ppo", "sac_discrete", "sac_continuous"]
SMALL = {"hidden": 32, "batch_size": 64, "learning_rate": 3e-3, "tau": 0.05, "return_weight": 0.5}
FAST: dict[str, dict[str, Any]] = {
    "ppo": {"hidden": 32, "learning_rate": 3e-3},
    "sac_discrete": {"sac": SMALL},
    "sac_continuous": {"sac": SMALL},
}


@pytest.mark.parametrize("evals", [3, 10])
@pytest.mark.parametrize("name", RIVALS)
def test_it_spends_exactly_its_evaluations_and_logs_each(name: str, evals: int, tmp_path: Path) -> None:
    problem = synthetic_problem()
    found, rows = allocate(name, problem, tmp_path, evals, seed=3)
    assert problem.evaluate.evals == len(rows) == evals
    assert [row["proposer"] for row in rows][-1] == "policy"
    assert all(row["bytes"] <= problem.budget_bytes and row["feasible"] for row in rows)
    assert rows[-1]["best"] == min(row["kl"] for row in rows)
    assert not problem.proxy_used
    assert 1 <= problem.select.evals <= 5
    assert problem.is_feasible(found.choice)
    assert np.array_equal(load_policy(tmp_path).allocation(AllocationEnv(problem)), found.policy_choice)


@pytest.mark.parametrize("name", RIVALS)
def test_too_few_evaluations_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(AllocationError, match="at least 3"):
        allocate(name, synthetic_problem(), tmp_path, 2)


@pytest.mark.parametrize("name", RIVALS)
def test_losses_that_explode_leave_a_feasible_allocation(name: str, tmp_path: Path) -> None:
    problem = synthetic_problem(evaluate=Evaluator(lambda choice: Score(float("nan"), float("nan"), float("nan"), 9)))
    found, rows = allocate(name, problem, tmp_path, 6, seed=3)
    assert all(row["best"] is None for row in rows)
    assert found.kind == "policy"
    assert problem.is_feasible(found.choice)


def test_ppo_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    allocate("ppo", synthetic_problem(), tmp_path, 5, hidden=16)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_policy_file_of_ppo_has_the_packages_own_logits() -> None:
    import baselines.ppo as ppo

    problem = synthetic_problem()
    params = ppo.PpoParams(hidden=16)
    history = History(problem, Run(0, 9, Path(), lambda row: None), params.reward)
    env = ppo.Recorded(AllocationEnv(problem), history)
    model = ppo.build(env, params, problem.n, seed=0)
    states = np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
    ours = history.policy(ppo.actor_layers(model)).logits(states)
    theirs = model.policy.get_distribution(torch.from_numpy(states)).distribution.logits.detach().numpy()
    shifted = ours - np.log(np.exp(ours).sum(axis=1, keepdims=True))  # the package keeps normalised ones
    assert np.allclose(shifted, theirs, atol=1e-5)


def test_returns_at_the_cap_set_no_scale() -> None:
    """Neither above the budget nor just below it, where the saving lifts the return over that of the cap alone."""
    problem = synthetic_problem()
    history = History(problem, Run(0, 9, Path(), lambda row: None), RewardParams())
    cheap = np.zeros(problem.n, dtype=np.int64)
    for kl in (0.1, 0.2, 0.3, float("inf")):
        score = Score(kl, 9.0, 2.0, 1)
        terms = reward_terms(score, problem.budget_bytes - 1, problem.budget_bytes, history.reward, 1.0)
        history.add({"choice": cheap, "score": score, "terms": terms}, bool(np.isfinite(kl)))
    factor, offset = history.scale(9)
    assert factor == pytest.approx(1 / np.std([1, 2, 3]), rel=1e-6)
    assert offset == pytest.approx(-2, abs=0.01)


@pytest.mark.parametrize("name", RIVALS)
def test_it_learns_where_there_is_something_to_learn(name: str, tmp_path: Path) -> None:
    """Attention linears lose nothing at 3 bits, the others a lot: what was tried late is better than what was early."""
    problem = synthetic_problem(budget=4.0)
    heavy = np.array([linear.role in ("gate", "up", "down") for linear in problem.linears])

    def evaluate(choice: np.ndarray) -> Score:
        kl = 0.3 * float((heavy * (3 - choice)).mean())
        return Score(kl, float(np.exp(3 + kl)), 3 + kl, 1)

    problem.features[:, 7] = ~heavy
    problem.evaluate = Evaluator(evaluate)
    _, rows = allocate(name, problem, tmp_path, 50, seed=3, **FAST[name])
    kls = np.array([row["kl"] for row in rows])
    assert kls[-16:-1].mean() < kls[:15].mean() - 0.5 * kls[:15].std()
