"""Every file in baselines/ keeps the contract: it loads, refuses unknown parameters, and does its one job."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from ramp.methods import Allocator, MethodError, Quantizer, discover, load_method, parse_params
from ramp.problem import Run
from tests.synthetic import synthetic_problem

FOLDER = Path(__file__).resolve().parents[2] / "baselines"
FILES = {**discover(FOLDER), "_template": FOLDER / "_template.py"}
ALLOCATORS = [name for name, path in FILES.items() if "METHOD = Allocator(" in path.read_text()]
QUANTIZERS = [name for name, path in FILES.items() if "METHOD = Quantizer(" in path.read_text()]
BUDGETS = (3.0, 3.65, 4.0)
EVALS = 6


def load(name: str, tmp_path: Path) -> Quantizer | Allocator:
    """The method; the template becomes a file of its own first, as its reader would make one."""
    path = FILES[name]
    if name == "_template":
        path = tmp_path / "template.py"
        path.write_text(FILES[name].read_text().replace('name="_template"', 'name="template"'))
    return load_method(path)


@pytest.mark.parametrize("name", FILES)
def test_it_loads_and_registers(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert method.name == name.lstrip("_")
    assert method.title
    assert method.source
    assert method.skip() is None or isinstance(method.skip(), str)
    for key, field in method.params.model_fields.items():
        assert field.description or isinstance(field.default, BaseModel), f"{key} has no description"


@pytest.mark.parametrize("name", FILES)
def test_it_refuses_unknown_parameters(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert parse_params(method, {}).model_dump() == method.params().model_dump()
    with pytest.raises(MethodError, match="unknown key 'no_such_parameter'"):
        parse_params(method, {"no_such_parameter": 1})


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocator_returns_a_feasible_allocation(name: str, budget: float, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert isinstance(method, Allocator)

    def once() -> tuple[np.ndarray, list[dict[str, object]]]:
        problem = synthetic_problem(budget=budget)
        rows: list[dict[str, object]] = []
        found = method.allocate(problem, method.params(), Run(0, EVALS, tmp_path, tmp_path, rows.append, method.name))
        assert problem.evaluate.evals <= EVALS
        for choice in (found.choice, found.policy_choice, found.start_choice):
            if choice is not None:
                assert choice.shape == (problem.n,)
                assert problem.is_feasible(choice)
        assert found.kind in ("proxy", "best", "policy")
        assert not method.learned or (tmp_path / "policy.safetensors").is_file()
        return found.choice, rows

    first, rows = once()
    again, _ = once()
    assert np.array_equal(first, again)  # the same seed gives the same allocation
    assert rows
    assert all(np.isfinite(row["kl"]) and row["bytes"] > 0 for row in rows)


@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocator_refuses_a_budget_that_nothing_meets(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert isinstance(method, Allocator)
    problem = synthetic_problem(budget=3.0)
    problem.budget_bytes -= 1
    with pytest.raises(ValueError, match="budget below the cheapest allocation"):
        method.allocate(problem, method.params(), Run(0, EVALS, tmp_path, tmp_path, lambda row: None))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_quantizer_quantizes_a_linear(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert isinstance(method, Quantizer)
    from ramp.quantizers.site import quantize_site

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 64, generator=generator)
    inputs = torch.randn(512, 64, generator=generator) * torch.linspace(0.2, 3, 64)
    hessian = inputs.T @ inputs / 512
    errors = {}
    for bits in (3, 4):
        made = quantize_site({"x": weight}, hessian, {"x": [bits]}, 32, method.quantizer, method.params())
        quantized = made["x", bits]
        assert quantized.codes.shape == (8, 64)
        assert int(quantized.codes.max()) < 2**bits
        delta = quantized.dequantize() - weight
        errors[bits] = float(torch.einsum("ij,jk,ik->", delta, hessian, delta))
    scale = float(torch.einsum("ij,jk,ik->", weight, hessian, weight))
    assert 0 < errors[4] < errors[3] < 0.1 * scale


def test_a_file_name_hides_no_module_of_python() -> None:
    import sys

    assert not set(discover(FOLDER)) & set(sys.stdlib_module_names)
