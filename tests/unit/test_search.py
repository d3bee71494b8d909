"""The stage around the methods: resume after a crash to the same bytes, hashes, episodes, infeasible scores."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.search_lab import Lab, LabParams
from ramp.core.atomic_files import sha256_file
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, AllocationError, Problem, Run
from ramp.scoring.score_type import Score
from ramp.search import journal
from ramp.search.journal import Journal, SearchState, describe
from ramp.search.results import write_results
from ramp.search.run import run_search
from tests.sealed import read_json
from tests.searchable import FAST, KilledError, Mortal, allocator, journalled, true_loss
from tests.synthetic import synthetic_problem

EVALS = 14
PARAMS: dict[str, dict[str, Any]] = {
    "ramp": FAST,
    "ramp_paper": {**FAST, "clone_steps": 0},
    "random_search": {},
    "sac_discrete": {**FAST, "clone_steps": 0},
    "sac_continuous": {"updates_per_episode": 2, "warmup_episodes": 4, "sac": {"hidden": 16}},
    "ppo": {"hidden": 16, "epochs": 2},
    "evolution": {},
    "annealing": {},
    "role_depth": {},
}


def finished(folder: Path, method: Allocator, params: Any, problem: Problem, state: SearchState) -> dict[str, Any]:
    """Run a search and return the allocation that it writes."""
    artifacts, fields = folder / "artifacts", {"study": "test", "group_size": 32, "fold": "awq", "quantizer": "gptq"}
    run = run_search(method, params, problem, state, seed=3, evals=EVALS, artifacts=artifacts)
    record = write_results(run, method.name, seed=3, out=folder / "alloc.json", artifacts=artifacts, **fields)
    assert record.model_dump() == read_json(folder / "alloc.json")
    return record.model_dump()


def search(
    folder: Path, name: str, *, budget: float = 3.65, die_at: int | None = None, loss: Any = None
) -> dict[str, Any]:
    """One search in ``folder`` with its state kept there; ``die_at`` raises in that many-th true evaluation."""
    method, state = allocator(name), SearchState.open(folder / "state", {"test": name})
    problem = journalled(state, EVALS, budget, die_at, loss)
    return finished(folder, method, method.params(**PARAMS[name]), problem, state)


def episodes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "artifacts" / "episodes.jsonl").read_text().splitlines()]


def assert_same(straight: Path, broken: Path) -> None:
    """The same allocation, times aside, and the same bytes of all else."""
    assert without_seconds(straight) == without_seconds(broken)
    for file in ("episodes.jsonl", "policy.safetensors", "policy.json"):
        if (straight / "artifacts" / file).exists():
            assert (straight / "artifacts" / file).read_bytes() == (broken / "artifacts" / file).read_bytes()


def without_seconds(folder: Path) -> dict[str, Any]:
    record = read_json(folder / "alloc.json")
    assert record.pop("search_wall_s") >= 0
    return record


@pytest.mark.parametrize("name", PARAMS)
def test_a_search_killed_twice_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    search(straight, name)
    for die_at in (6, 4):
        with pytest.raises(KilledError):
            search(broken, name, die_at=die_at)
    journal = next((broken / "state").iterdir()) / "journal.jsonl"
    with open(journal, "a", encoding="utf-8") as stream:
        stream.write('{"text": "search", "cho')  # torn by the crash
    search(broken, name)
    assert_same(straight, broken)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_ramp_improves_on_its_start_and_says_what_it_spent(tmp_path: Path) -> None:
    record = search(tmp_path, "ramp")
    assert record["kl_selection"] <= record["kl_start_selection"]
    assert record["bytes_linear"] <= record["budget_bytes"]
    assert record["search_evals"] == EVALS
    expected = 3 * 2048 + 2048 * (EVALS + record["selection_evals"])  # proxy, search, selection
    assert record["search_tokens"] == expected
    assert record["kl_policy"] is not None
    rows = episodes(tmp_path)
    assert [row["evals"] for row in rows] == list(range(1, EVALS + 1))
    assert rows[0]["proposer"] == "start"
    assert rows[0]["kl"] == record["kl_start"]
    assert rows[-1]["proposer"] == "policy"
    assert {row["proposer"] for row in rows} >= {"start", "policy", "knapsack", "actor"}
    assert all(row["bytes"] <= record["budget_bytes"] for row in rows)
    assert f"KL on search text   {record['kl_search']:.5f}" in (tmp_path / "artifacts" / "summary.txt").read_text()


def test_ramp_paper_without_a_feasible_episode_reports_the_projected_policy(tmp_path: Path) -> None:
    record = search(tmp_path, "ramp_paper", budget=3.05)
    rows = episodes(tmp_path)
    assert not any(row["feasible"] for row in rows[:-1])
    assert record["bytes_linear"] <= record["budget_bytes"]
    assert record["start_bits"] is None
    assert record["search_tokens"] == 2048 * (EVALS + record["selection_evals"])  # no proxy was read
    assert record["kind"] == "policy"
    assert record["projected"]
    assert record["bits"] == record["policy_bits"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e30])
def test_losses_that_explode_are_infeasible_or_last_and_stop_nothing(loss: float, tmp_path: Path) -> None:
    good = true_loss(0.0)

    def fragile(choice: np.ndarray) -> Score:
        return Score(loss, float("inf"), loss, 2048) if int(choice.sum()) % 2 else good(choice)

    record = search(tmp_path, "ramp", loss=fragile)
    rows = episodes(tmp_path)
    sane = [row["kl"] for row in rows if row["kl"] is not None and row["kl"] < 1e29]
    assert len(sane) < EVALS
    assert rows[-1]["best"] == min(sane)
    assert all(row["feasible"] == (row["kl"] in sane) for row in rows)
    assert all(np.isfinite(row["reward_total"]) for row in rows)
    assert record["kl_search"] is None or record["kl_search"] < 1e29


def parted(folder: Path, die_at: int | None = None) -> dict[str, Any]:
    """A search whose episodes are parts of a pool; ``die_at`` as in ``search``."""
    method = allocator("ramp")
    params = method.params(**FAST, pool_windows=32, incumbent="mean", surrogate={"text": 0.2})
    state = SearchState.open(folder / "state", {"test": "parted"})
    lab = Lab(LabParams(blocks=2), 0).problem(params, EVALS)
    mortal = Mortal(die_at)
    problem = replace(
        lab,
        evaluate=state.evaluator("search", mortal(lab.evaluate), limit=EVALS),
        select=state.evaluator("selection", mortal(lab.select)),
        search_parts=[state.evaluator(f"search part {k}", mortal(x)) for k, x in enumerate(lab.search_parts)],
    )
    return finished(folder, method, params, problem, state)


def test_a_search_on_parts_is_killed_and_resumed_and_stays_within_its_evaluations(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    record = parted(straight)
    for die_at in (3, 9, 14):  # among the anchors, the episodes, the end
        with pytest.raises(KilledError):
            parted(broken, die_at)
    parted(broken)
    assert_same(straight, broken)
    assert record["search_evals"] <= EVALS
    assert record["kl_start"] is not None
    assert record["kl_start_selection"] is not None
    said = (straight / "artifacts" / "summary.txt").read_text()
    assert f"{record['search_evals']} evaluations" in said
    assert record["notes"] in said


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b'{"a": \n', b"\xff\n", b'{"a": 1}'])
def test_a_journal_ends_before_its_first_damaged_line(tmp_path: Path, damage: bytes) -> None:
    """Zeros after a loss of power, half a line, bytes that are no text, a line without its end."""
    file = tmp_path / "journal.jsonl"
    journal = Journal(file, dict[str, int])
    journal.append({"good": 1})
    good = file.read_bytes()
    journal.append({"after": 2})
    after = file.read_bytes()[len(good) :]
    file.write_bytes(good + damage + after * (damage[-1:] == b"\n"))
    assert Journal(file, dict[str, int]).read() == [{"good": 1}]
    assert file.read_bytes() == good


def test_a_method_that_breaks_the_budget_is_caught(tmp_path: Path) -> None:
    def widest(problem: Problem, params: Params, run: Run) -> Allocation:
        return Allocation(np.full(problem.n, 3), "best")

    greedy = Allocator(title="t", source="s", allocate=widest, params=Params, name="greedy")
    state = SearchState.open(tmp_path / "state", {})
    evaluate, select = (state.evaluator(text, true_loss(0)) for text in ("search", "selection"))
    problem = synthetic_problem(evaluate=evaluate, select=select)
    with pytest.raises(AllocationError, match="repair"):
        finished(tmp_path, greedy, Params(), problem, state)
    assert not (tmp_path / "alloc.json").exists()


def test_another_source_input_or_setting_is_another_search(tmp_path: Path) -> None:
    method, text = tmp_path / "mine.py", tmp_path / "text"
    method.write_text("from ramp.allocators import greedy\n")
    text.write_text("one")

    def folder(**settings: Any) -> Path:
        return SearchState.open(tmp_path / "state", describe(method, {"text": text}, {"seed": 0, **settings})).folder

    first = folder()
    assert folder() == first
    assert folder(seed=1) != first
    text.write_text("two")
    second = folder()
    assert second != first
    method.write_text("from ramp.allocators import greedy  # edited\n")
    assert folder() not in (first, second)


def test_a_large_input_that_is_written_again_is_another_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gigabytes are not read: the small files beside it are, and when and how long it was written."""
    method, model = tmp_path / "mine.py", tmp_path / "model"
    method.write_text("")
    model.mkdir()
    shard, config = model / "model.safetensors", model / "config.json"
    shard.write_bytes(bytes(100))
    config.write_text("{}")
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(journal, "HASHED_BYTES", 50)
    monkeypatch.setattr(journal, "sha256_file", reading)

    def folder() -> Path:
        return SearchState.open(tmp_path / "state", describe(method, {"model_dir": model}, {})).folder

    found = [folder()]
    assert folder() == found[0]
    os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 1))
    found.append(folder())
    shard.write_bytes(bytes(101))
    found.append(folder())
    config.write_text("[]")
    found.append(folder())
    assert len(set(found)) == 4
    assert config in read
    assert shard not in read
