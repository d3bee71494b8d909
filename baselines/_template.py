"""Copy to baselines/mine.py, add ``mine`` to ``methods:`` in the configuration, and run.

The first line says what the method is. Everything that it may use is in ``ramp.problem.problem.Problem``:
``problem.bytes`` [n, w], ``problem.budget_bytes``, ``problem.features`` [n, 9], ``problem.use_proxy()`` [n, w],
``problem.evaluate(choice)`` (counted, at most ``run.evals`` times) and ``problem.select(choice)`` (counted apart).
``tests/contract`` tries every file of this folder.
"""

import numpy as np
from pydantic import Field

from ramp.allocators.greedy import repair
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run, choose


class TemplateParams(Params):
    """One line and a unit under each field; unknown keys are refused."""

    swaps: int = Field(default=4, gt=0, description="linears that are given another width at a time")


def skip() -> str | None:
    """Return why it cannot run on this machine; its rows then show the reason (‡). None: it can."""
    return None  # "it needs a GPU" if not torch.cuda.is_available() else None


def allocate(problem: Problem, params: TemplateParams, run: Run) -> Allocation:
    """Climb from the middle: change a few widths, repair the budget, keep what is better."""
    rng = np.random.default_rng(run.seed)  # all randomness from the seed: then a killed search resumes by itself
    prices = problem.use_proxy()
    best = repair(np.ones(problem.n, dtype=int), prices, problem.bytes, problem.budget_bytes)
    best_kl = problem.evaluate(best).kl
    start = best
    for _ in range(run.evals - 1):
        choice = best.copy()
        changed = rng.choice(problem.n, params.swaps, replace=False)
        choice[changed] = rng.integers(0, len(problem.widths), params.swaps)
        choice = repair(choice, prices, problem.bytes, problem.budget_bytes)
        score = problem.evaluate(choice)
        if score.kl < best_kl:
            best, best_kl = choice, score.kl
        run.log({"kl": score.kl, "ppl": score.ppl, "bytes": problem.bytes_of(choice), "best": best_kl})
    chosen, _ = choose(problem, [start, best])
    return Allocation(chosen, "best", start_choice=start)


METHOD = Allocator(
    title="Template",  # for logs; tables take it from paper/naming.py, or the file's name
    source="where the method comes from",
    fold="awq",  # none, or one of the configuration's folds (awq, smoothquant): the weights that are quantized
    quantizer="gptq",  # rtn, gptq, or a function (weight, hessian, bits, group_size, params) -> QuantizedLinear
    learned=False,  # True if it leaves a policy that can be transferred
    allocate=allocate,
    params=TemplateParams,
    requirements=(),  # ("name==version",) of what the study's environment lacks; import it inside allocate
    skip=skip,
)
