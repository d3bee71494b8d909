"""Policies as files, and the transfer to a model that was never evaluated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.core.atomic_files import DamagedFile
from ramp.models.architecture import list_linears
from ramp.problem.budget import AllocationError, budget_bytes
from ramp.problem.features import SIZE
from ramp.rl.environment import AllocationEnv
from ramp.rl.policy import Policy, PolicyError, load_policy
from ramp.rl.role_depth import NAMES, TablePolicy
from ramp.rl.sac_discrete import DiscreteSAC
from ramp.rl.sac_params import SacParams
from ramp.search.trained_policy import read_policy, transfer
from ramp.search.transfer import main
from tests.model_folders import read_config
from tests.refusals import refused
from tests.sealed import read_json, save_sealed, write_sealed
from tests.searchable import make_searchable, run_stage
from tests.synthetic import synthetic_problem

ABOUT = {"model": "source", "method": "ramp", "budgets": [3.65], "seed": 0, "episodes": 7}


def agent() -> DiscreteSAC:
    return DiscreteSAC(SIZE, 4, SacParams(hidden=16), seed=5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Policy(agent().actor_layers(), (3, 4, 5, 6), ABOUT).save(tmp_path / "policy")
    return tmp_path / "policy"


def test_a_loaded_policy_is_the_learners_actor(saved: Path) -> None:
    policy, learner = load_policy(saved), agent()
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(50, SIZE)).astype(np.float32)
    masks = rng.random((50, 4)) < 0.7
    masks[:, 0] = True
    with torch.no_grad():
        expected = learner.log_policy(torch.from_numpy(obs), torch.from_numpy(masks)).numpy()
    found = policy.log_chances(obs, masks)
    assert np.allclose(found[masks], expected[masks], atol=1e-5)
    assert (found[~masks] == -30).all()
    assert policy.about == ABOUT


def test_policies_that_do_not_fit_are_refused(saved: Path) -> None:
    record = read_json(saved / "policy.json")
    other = synthetic_problem(widths=(2, 3, 4, 5))
    refused(PolicyError, {"among [3, 4, 5, 6] bits": lambda: transfer(load_policy(saved), other)})
    for key, value, said in (
        ("format", 9, "has format 9"),
        ("features", record["features"][:3], "other constants"),
        ("widths", [3, 4], "do not fit"),
    ):
        write_sealed(saved / "policy.json", {**record, key: value})
        with pytest.raises(PolicyError, match=said):
            load_policy(saved)
    write_sealed(saved / "policy.json", record)
    tensors = load_file(saved / "policy.safetensors")
    save_sealed(
        {name: tensor for name, tensor in tensors.items() if name != "layers.1.bias"}, saved / "policy.safetensors"
    )
    refused(DamagedFile, {"lacks 'layers.1.bias'": lambda: load_policy(saved)})


def test_a_policy_is_read_by_its_kind(saved: Path, tmp_path: Path) -> None:
    """Networks of before kinds were written, tables, and one sentence for anything else."""
    record = read_json(saved / "policy.json")
    assert isinstance(read_policy(saved), Policy)
    write_sealed(saved / "policy.json", {key: value for key, value in record.items() if key != "kind"})
    assert isinstance(read_policy(saved), Policy)
    write_sealed(saved / "policy.json", {**record, "kind": "forest"})
    with pytest.raises(PolicyError, match="'forest'"):
        read_policy(saved)
    numbers = np.linspace(-1, 1, len(NAMES))
    TablePolicy(numbers, (3, 4, 5, 6), ABOUT).save(tmp_path / "table")
    table = read_policy(tmp_path / "table")
    assert isinstance(table, TablePolicy)
    assert np.array_equal(table.numbers, numbers)
    assert table.about == ABOUT
    path = tmp_path / "table" / "policy.json"
    written = read_json(path)
    assert written["numbers"] == dict(zip(NAMES, numbers, strict=True))
    write_sealed(path, {**written, "numbers": {"q": 1.0}})
    with pytest.raises(PolicyError, match="no table"):
        read_policy(tmp_path / "table")
    write_sealed(path, written)
    save_sealed({"numbers": torch.full((len(NAMES),), torch.nan)}, tmp_path / "table" / "policy.safetensors")
    with pytest.raises(PolicyError, match="10 finite"):
        read_policy(tmp_path / "table")


@pytest.mark.parametrize("budget", [3.0, 3.3, 4.0, 6.0])
def test_a_transfer_meets_the_budget_and_spends_it(saved: Path, budget: float) -> None:
    problem = synthetic_problem(layers=3, budget=budget, seed=9)
    choice = transfer(load_policy(saved), problem)
    assert problem.is_feasible(choice)
    rows = np.arange(problem.n)
    extra = problem.bytes - problem.bytes[rows, choice][:, None]
    assert problem.budget_bytes - problem.bytes_of(choice) < extra[extra > 0].min(initial=2**60)
    assert problem.evaluate.evals == problem.select.evals == 0
    assert not problem.proxy_used


def test_a_budget_below_the_cheapest_is_refused(saved: Path) -> None:
    problem = synthetic_problem(budget=3.0)
    problem.budget_bytes -= 1
    with pytest.raises(AllocationError, match="raise the budget"):
        transfer(load_policy(saved), problem)


def test_the_policy_prefers_what_it_says(saved: Path) -> None:
    """A policy that wants 6 bits for attention and 3 for the rest gets that, as far as the bytes go."""
    problem = synthetic_problem(layers=3, budget=4.4)
    weight, bias = np.zeros((4, SIZE), dtype=np.float32), np.zeros(4, dtype=np.float32)
    weight[3, 7], bias[0] = 9.0, 3.0  # feature 7: attention
    problem.features[:, 7] = [linear.role in "qkvo" for linear in problem.linears]
    wanted = Policy([(weight, bias)], (3, 4, 5, 6), ABOUT).greedy(AllocationEnv(problem)).actions
    choice = transfer(Policy([(weight, bias)], (3, 4, 5, 6), ABOUT), problem)
    attention = problem.features[:, 7] == 1
    assert choice[attention].mean() > 2 > choice[~attention].mean()
    assert (choice >= wanted).all()


def test_the_command_line_on_a_real_folder(saved: Path, tiny_llama_dir: Path, tmp_path: Path) -> None:
    linears = list_linears(read_config(tiny_llama_dir))
    make_searchable(tmp_path, tiny_llama_dir, [3, 4, 5, 6])
    options = {
        "--policy": saved, "--source": "source", "--model-dir": tiny_llama_dir, "--bank": tmp_path / "bank",
        "--fold": tmp_path / "none.safetensors", "--calibration": tmp_path / "stats.safetensors", "--budget": 3.65,
        "--group-size": 32, "--seed": 4, "--study": "test", "--out": tmp_path / "alloc.json",
    }  # fmt: skip
    record = run_stage(main, options)
    assert record["method"] == "ramp_transfer"
    assert record["kind"] == "policy"
    assert record["search_evals"] == record["search_tokens"] == 0
    assert "source" in record["notes"]
    assert set(record["bits"]) == {linear.name for linear in linears}
    assert record["bytes_linear"] <= record["budget_bytes"] == budget_bytes(linears, 3.65, 32)
    refused(PolicyError, {"trained on source": lambda: run_stage(main, options, source="another")})
