"""Every file in baselines/ keeps the contract: it loads, refuses unknown parameters, and does its one job."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from ramp.core.field_texts import field_texts
from ramp.methods.kinds import Allocator, Method, MethodError, Mix, Package, Quantizer
from ramp.methods.loader import PIN, discover, load_method, method_files, parse_params
from ramp.problem.problem import Run
from tests.synthetic import synthetic_problem

FOLDER = Path(__file__).resolve().parents[2] / "baselines"
TEMPLATES = ("_template", "_template_package")
CATALOG = discover(FOLDER)
FILES = {**CATALOG.files, **{name: FOLDER / f"{name}.py" for name in (*TEMPLATES, *CATALOG.broken)}}
KINDS = {**CATALOG.methods, "_template": Allocator, "_template_package": Package}


def of_kind(kind: type) -> list[str]:
    """Names of one kind: a method by its object, a template by what it is meant for."""
    return [name for name, method in KINDS.items() if method is kind or isinstance(method, kind)]


ALLOCATORS, PACKAGES, MIXES, QUANTIZERS = map(of_kind, (Allocator, Package, Mix, Quantizer))
PLAIN, MENU = (3, 4, 5, 6), (3, "3g16", 4, "4g16", 5)
EVALS = 6


def load(name: str, tmp_path: Path) -> Method:
    """The method; a template becomes a file of its own first, as its reader would make one."""
    path = FILES[name]
    if name in TEMPLATES:
        path = tmp_path / f"{name.lstrip('_')}.py"
        path.write_text(FILES[name].read_text().replace(f'name="{name}"', f'name="{path.stem}"'))
        return load_method(path)
    return CATALOG[name]


@pytest.mark.parametrize("name", FILES)
def test_it_loads_and_registers(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert method.name == name.lstrip("_")
    assert method.title
    assert method.source
    reason = method.skip()
    assert reason is None or (reason.strip() == reason and len(reason) > 10 and "\n" not in reason)
    texts = field_texts(method.params)
    for key, field in method.params.model_fields.items():
        assert field.description or texts.get(key) or isinstance(field.default, BaseModel), f"{key} has no description"


@pytest.mark.parametrize("name", FILES)
def test_it_refuses_unknown_parameters(name: str, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert parse_params(method, {}).model_dump() == method.params().model_dump()
    with pytest.raises(MethodError, match="'no_such_parameter'"):
        parse_params(method, {"no_such_parameter": 1})


@pytest.mark.parametrize(("budget", "widths"), [(3.0, PLAIN), (3.65, MENU)], ids=["plain", "menu"])
@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocator_returns_a_feasible_allocation(name: str, budget: float, widths: tuple, tmp_path: Path) -> None:
    method = load(name, tmp_path)
    assert isinstance(method, Allocator)

    def once() -> tuple[np.ndarray, list[dict[str, object]]]:
        problem = synthetic_problem(budget=budget, widths=widths)
        rows: list[dict[str, object]] = []
        found = method.allocate(problem, method.params(), Run(0, EVALS, tmp_path, rows.append, method.name))
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
    with pytest.raises(ValueError, match="cheapest"):
        method.allocate(problem, method.params(), Run(0, EVALS, tmp_path, lambda row: None))


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


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_is_named_as_llama_cpp_names_it(name: str, tmp_path: Path) -> None:
    import gguf

    method = load(name, tmp_path)
    assert isinstance(method, Mix)
    assert f"MOSTLY_{method.file_type}" in gguf.LlamaFileType.__members__
    assert method.file_type[1] == str(method.bits)
    assert name == method.file_type.lower() + ("_imatrix" if method.importance else "")


@pytest.mark.parametrize("name", FILES)
def test_requirements_are_pinned_literally(name: str, tmp_path: Path) -> None:
    """A tuple of literal strings in the file, so that a reader and a tool see them without running anything."""
    method = load(name, tmp_path)
    call = next(node for node in ast.walk(ast.parse(FILES[name].read_text())) if _registers(node))
    values = [ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "requirements"]
    assert values in ([method.requirements], [] if not method.requirements else None)
    assert all(PIN.fullmatch(requirement) for requirement in method.requirements)
    if isinstance(method, Package):
        assert method.requirements
        assert set(method.bits) <= set(range(2, 9))


def _registers(node: ast.AST) -> TypeGuard[ast.Call]:
    kinds = ("Quantizer", "Allocator", "Package", "Mix")
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds


def test_package_files_need_nothing_of_ours_but_light_modules() -> None:
    """They are imported in the packages' environments, which may have neither torch nor transformers of their own."""
    heavy = "('torch', 'transformers', 'accelerate', 'safetensors.torch')"
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); import runpy\n"
    code += "for file in sys.argv[1:]: runpy.run_path(file)"
    command = [sys.executable, "-c", code, *(str(FILES[name]) for name in PACKAGES)]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(PACKAGES) >= 5


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_imported_inside_its_function_and_not_hidden_by_its_file(name: str) -> None:
    """With baselines/ on the path, ``import hqq`` must still find hqq."""
    tree = ast.parse(FILES[name].read_text())
    inside = [node for function in tree.body if isinstance(function, ast.FunctionDef) for node in ast.walk(function)]
    names = {alias.name for node in inside if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in inside if isinstance(node, ast.ImportFrom)}
    packages = {each.partition(".")[0] for each in names}
    assert packages - set(sys.stdlib_module_names) or name in TEMPLATES, "it imports no package at all"
    assert name not in packages


def test_packages_that_share_an_environment_have_the_same_requirements() -> None:
    shared: dict[str, set[tuple[str, ...]]] = {}
    for name in PACKAGES:
        if name not in TEMPLATES:
            method = CATALOG[name]
            assert isinstance(method, Package)
            shared.setdefault(method.env_name, set()).add(method.requirements)
    assert all(len(found) == 1 for found in shared.values()), shared


def test_a_file_name_hides_no_module_of_python() -> None:
    assert not {path.stem for path in method_files(FOLDER)} & set(sys.stdlib_module_names)
