"""Counting, infeasible scores and the final choice."""

from pathlib import Path

import numpy as np
import pytest

from ramp.core.errors import RampError
from ramp.problem.allocation import read_allocation, record_allocation, write_allocation
from ramp.problem.problem import AllocationError, Evaluator, Problem, choose
from ramp.scoring.score_type import Score
from tests.sealed import read_json, write_sealed
from tests.synthetic import synthetic_problem


def test_evaluations_and_tokens_are_counted_and_limited() -> None:
    evaluator = Evaluator(lambda choice: Score(0.1, 2.0, 0.7, 2048), limit=2)
    evaluator(np.zeros(3))
    evaluator(np.zeros(3))
    assert (evaluator.evals, evaluator.tokens) == (2, 4096)
    with pytest.raises(AllocationError, match="2 evaluations"):
        evaluator(np.zeros(3))


@pytest.mark.parametrize("bad", [Score(float("nan"), 1.0, 0.0, 7), Score(0.1, float("inf"), float("inf"), 7)])
def test_a_score_that_is_not_finite_is_infinitely_bad(bad: Score) -> None:
    evaluator = Evaluator(lambda choice: bad)
    assert evaluator(np.zeros(3)) == Score(float("inf"), float("inf"), float("inf"), 7)
    assert evaluator.tokens == 7


def test_the_proxy_is_charged_only_when_read() -> None:
    problem = synthetic_problem()
    assert not problem.proxy_used
    problem.use_proxy()
    assert problem.proxy_used
    problem.proxy = None
    with pytest.raises(AllocationError, match="pass --sensitivity"):
        problem.use_proxy()


def test_shapes_and_widths_are_checked() -> None:
    good = synthetic_problem()
    fields = {name: getattr(good, name) for name in ("model", "linears", "budget_bytes", "budget_bits", "features")}
    fields |= {"bytes_at": good.bytes_at, "evaluate": good.evaluate, "select": good.select}
    with pytest.raises(AllocationError, match="linears x"):
        Problem(widths=(3, 4), bytes=good.bytes, **fields)
    for widths in ((4, 3, 5, 6), ("3g16", 3, 3, 4), (4, "3g16", 5, 6)):
        with pytest.raises(AllocationError, match="ascending"):
            Problem(widths=widths, bytes=good.bytes, **fields)


def test_choose_never_leaves_the_start_for_something_worse() -> None:
    problem = synthetic_problem()
    losses = {0: 0.3, 1: 0.2, 2: float("nan")}
    problem.select = Evaluator(lambda choice: Score(losses[int(choice[0])], 1.0, 0.0, 1))
    start, better, broken = (np.full(problem.n, index) for index in (0, 1, 2))
    assert choose(problem, [start, better, broken])[1] == 1
    assert choose(problem, [start, broken])[1] == 0
    losses[1] = 0.3
    assert choose(problem, [start, better])[1] == 0


def test_an_allocation_file_is_read_as_it_was_written_and_damage_is_one_sentence(tmp_path: Path) -> None:
    problem, path = synthetic_problem(widths=(3, "3g16", 4, "4g16")), tmp_path / "a.json"
    fields = {"kind": "best", "method": "m", "seed": 0, "group_size": 32, "fold": "awq", "quantizer": "gptq"}
    record = record_allocation(problem, np.zeros(problem.n, dtype=int), **fields, kl_search=float("inf"))
    assert record.kl_search is None
    write_allocation(path, record)
    assert read_allocation(path, problem.linears, fold="awq", quantizer=None) == record
    with pytest.raises(AllocationError, match="fold awq, not none"):
        read_allocation(path, problem.linears, fold="none")
    written = read_json(path)
    for change, fault in (
        ({"bits": {"a": "3x16"}}, "bits.a"),
        ({"seed": "first"}, "seed"),
        ({"surprise": 1}, "surprise"),
        ({"kind": "luck"}, "kind"),
    ):
        write_sealed(path, written | change)
        with pytest.raises(RampError, match=rf"a\.json .*\({fault}"):
            read_allocation(path)
    with pytest.raises(AllocationError, match="surprise"):
        record_allocation(problem, np.zeros(problem.n, dtype=int), **fields, surprise=1)
