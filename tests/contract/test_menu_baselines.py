"""Every allocator of baselines/ on a menu of bits and group sizes: the same contract as on plain widths."""

from pathlib import Path

import numpy as np
import pytest

from ramp.methods.kinds import Allocator
from ramp.methods.loader import discover
from ramp.problem.problem import Run
from tests.synthetic import synthetic_problem

FOLDER = Path(__file__).resolve().parents[2] / "baselines"
METHODS = discover(FOLDER).methods
ALLOCATORS = [name for name, method in METHODS.items() if isinstance(method, Allocator)]
MENU = (3, "3g16", 4, "4g16", 5)
EVALS = 6


@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocator_chooses_from_a_menu(name: str, tmp_path: Path) -> None:
    method = METHODS[name]
    assert isinstance(method, Allocator)
    problem = synthetic_problem(widths=MENU)
    rows: list[dict[str, object]] = []
    found = method.allocate(problem, method.params(), Run(0, EVALS, tmp_path, rows.append, method.name))
    assert found.choice.shape == (problem.n,)
    assert problem.is_feasible(found.choice)
    assert bool((np.asarray(found.choice) < len(MENU)).all())
    assert rows
