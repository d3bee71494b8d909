"""The search's command line on a real (random, two-layer) model: its score against a plain float64 computation."""

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramp.bank.bank import INDEX, WEIGHTS, Bank, BankError
from ramp.core import cli
from ramp.core.atomic_files import sha256_file
from ramp.methods.kinds import Allocator, MethodError, Params, SearchParams
from ramp.models.token_windows import token_windows
from ramp.problem.problem import Allocation, AllocationError, Problem, Run, decode
from ramp.search import journal
from ramp.search.__main__ import main
from ramp.search.journal import ROOT, SearchState
from ramp.search.options import add_arguments
from ramp.search.setup import Search, prepare
from tests.model_folders import load_float, load_tokenizer
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.searchable import make_searchable, run_stage
from tests.tiny_models import exact_scores

WINDOWS, LENGTH = 3, 40
STAGE_ONLY = ("--study", "--out", "--artifacts")
FAST: dict[str, Any] = {"updates_per_episode": 1, "clone_steps": 5, "distil_steps": 5, "sac": {"hidden": 8}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> dict[str, Any]:
    """Command-line arguments of a search on ``tiny_llama_dir``, everything in place."""
    folder = tmp_path_factory.mktemp("study")
    return make_searchable(folder, tiny_llama_dir, [3, 4, 5, 6]) | {
        "--search-windows": WINDOWS,
        "--search-length": LENGTH,
        "--method-file": ROOT / "baselines" / "knapsack.py",
        "--budget": 3.65,
        "--evals": 2,
        "--study": "test",
        "--out": folder / "alloc.json",
        "--artifacts": folder / "artifacts",
    }


def opened(study: dict[str, Any]) -> Search:
    """The search that the arguments ask for."""
    parser = cli.parser("")
    add_arguments(parser)
    words = [str(word) for name, value in study.items() if name not in STAGE_ONLY for word in (name, value)]
    return prepare(parser.parse_args(words))[0]


def call_ramp(study: dict[str, Any], folder: Path, evals: int, **params: Any) -> dict[str, Any]:
    """A short search of RAMP with its files in ``folder``."""
    places = {"out": folder / "alloc.json", "artifacts": folder / "artifacts"}
    method = ROOT / "baselines" / "ramp.py"
    return run_stage(main, study, method_file=method, params=json.dumps(FAST | params), evals=evals, **places)


def test_the_score_is_the_kl_of_the_assembled_model(study: dict[str, Any]) -> None:
    record = run_stage(main, study)
    tokenizer, bank = load_tokenizer(study["--model-dir"]), Bank(study["--bank"])
    windows = token_windows(tokenizer, study["--search-text"], length=LENGTH, count=WINDOWS)
    weights = {name: bank.dequantize(name, bits) for name, bits in record["bits"].items()}
    kl, nll = (float(x.mean()) for x in exact_scores(load_float(study["--model-dir"]), windows, weights))
    assert kl > 1e-3
    assert record["kl_search"] == pytest.approx(kl, rel=5e-3)
    assert record["ppl_search"] == pytest.approx(math.exp(nll), rel=1e-3)
    assert record["search_tokens"] == 300 + WINDOWS * LENGTH
    assert record["quantizer"] == "rtn"
    assert not any(study["--state-dir"].iterdir())  # a finished search leaves no state


def test_another_bank_is_another_search(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the index, which names the sha256 of the weights; those are compared when the bank is opened."""
    states, read = [], []

    def stateless(state_dir: Path, identity: dict[str, Any]) -> SearchState:
        states.append(identity)
        return SearchState(state_dir / "none")

    def reading(path: Path) -> str:
        read.append(Path(path).name)
        return sha256_file(path)

    monkeypatch.setattr(SearchState, "open", stateless)
    monkeypatch.setattr(journal, "sha256_file", reading)
    search = opened(study)
    index = search.inputs.bank / INDEX
    before = index.read_bytes()
    try:
        for change in (before, before.replace(b'"sha256": "', b'"sha256": "0')):
            index.write_bytes(change)
            search.open_state()
    finally:
        index.write_bytes(before)
    assert states[0] != states[1]
    assert INDEX in read
    assert WEIGHTS not in read


def test_ramp_runs_and_leaves_its_policy(study: dict[str, Any], tmp_path: Path) -> None:
    record = call_ramp(study, tmp_path, 5)
    assert record["search_evals"] == 5
    assert record["kl_selection"] <= record["kl_start_selection"]
    about = read_json(tmp_path / "artifacts" / "policy.json")
    assert about["method"] == "ramp"
    assert about["budgets"] == [3.65]
    episodes = [json.loads(line) for line in (tmp_path / "artifacts" / "episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 5
    bank = Bank(study["--bank"])
    for row in episodes:  # what was scored can be read back, whoever proposed it
        assert row["bytes"] == int(bank.bytes()[range(len(bank.linears)), decode(row["choice"])].sum())


def test_finalists_may_meet_on_more_text_than_is_searched_on(study: dict[str, Any], tmp_path: Path) -> None:
    chance = {"method_file": ROOT / "baselines" / "random_search.py", "evals": 3, "artifacts": tmp_path / "artifacts"}
    plain = run_stage(main, study, **chance, out=tmp_path / "plain.json")
    more = run_stage(main, study, **chance, selection_windows=2 * WINDOWS, out=tmp_path / "more.json")
    spent = plain["selection_evals"] * WINDOWS * LENGTH
    assert spent > 0
    assert more["search_tokens"] == plain["search_tokens"] + spent  # the same finalists on twice the text, charged
    assert more["kl_selection"] != plain["kl_selection"]


@dataclass(frozen=True)
class Asking:
    """An allocator that scores one allocation on search text, then on selection text; its scores."""

    seen: list[float]

    def __call__(self, problem: Problem, params: Any, run: Run) -> Allocation:
        choice = np.zeros(problem.n, dtype=np.int64)
        self.seen.extend([problem.evaluate(choice).kl, problem.select(choice).kl])
        return Allocation(choice, "proxy")


def test_a_method_that_does_not_search_may_still_ask_for_selection_text(study: dict[str, Any], tmp_path: Path) -> None:
    """Its reference is made when it asks, from the float model: the scores are those of a method that searches."""
    scores = []
    for kind in (SearchParams, Params):
        seen: list[float] = []
        method = Allocator(title="asking", source="", allocate=Asking(seen), params=kind)
        search = replace(opened(study), method=method, params=kind(), state_dir=tmp_path / kind.__name__)
        search.run(search.open_model(), search.open_state())
        scores.append(seen)
    assert scores[0] == scores[1]
    assert scores[0][0] != scores[0][1]


def test_faults_are_one_sentence(study: dict[str, Any], tmp_path: Path) -> None:
    rtn, ramp = (ROOT / "baselines" / f"{name}.py" for name in ("rtn", "ramp"))
    calls = {
        "rtn.py is a uniform method": lambda: run_stage(main, study, method_file=rtn),
        "'updates_per_episode'": lambda: run_stage(main, study, method_file=ramp, params='{"upates_per_episode": 1}'),
    }
    refused(MethodError, calls)
    refused(AllocationError, {"(3.00 bits); raise the budget": lambda: run_stage(main, study, budget=2.5)})
    refused(ValueError, {"no sensitivity": lambda: run_stage(main, study, sensitivity=tmp_path / "absent.json")})
    with pytest.raises(SystemExit):  # of argparse, which names the option
        run_stage(main, study, params="{")
    other = tmp_path / "awq.safetensors"
    other.write_bytes(study["--fold"].read_bytes())
    refused(BankError, {"fold 'none', not 'awq'": lambda: run_stage(main, study, fold=other)})
    proxy = tmp_path / "proxy.json"
    write_sealed(proxy, read_json(study["--sensitivity"]) | {"bank_sha256": "0" * 64})
    refused(AllocationError, {"another bank": lambda: run_stage(main, study, sensitivity=proxy)})


def laid_out(study: dict[str, Any], results: Path) -> Path:
    """A results folder as the workflow lays it out, by links to ``study``'s files; its bank names the fold there."""
    places = {
        "--model-dir": "models/tiny",
        "--bank": "bank/tiny/awq-gptq",
        "--fold": "folds/tiny/awq.safetensors",
        "--calibration": "calibration/tiny.safetensors",
        "--sensitivity": "sensitivity/tiny/awq-gptq.json",
        "--search-text": "texts/search.jsonl",
        "--selection-text": "texts/selection.jsonl",
    }
    for option, place in places.items():
        (results / place).parent.mkdir(parents=True, exist_ok=True)
        (results / place).symlink_to(study[option])
    bank = results / places["--bank"]
    bank.unlink()
    shutil.copytree(study["--bank"], bank)
    write_sealed(bank / INDEX, read_json(bank / INDEX) | {"fold": "awq"})
    return results


def by_hand(results: Path, *extra: object, model: str = "tiny") -> int:
    """``python -m ramp.search`` with a model, a budget and a results folder."""
    size = ("--search-windows", WINDOWS, "--search-length", LENGTH, "--device", "cpu", "--dtype", "float32")
    said = ["--model", model, "--budget", 3.65, "--results", results, *size, *extra]
    return main([str(part) for part in said])


def test_a_model_and_a_budget_are_enough(study: dict[str, Any], tmp_path: Path) -> None:
    results = laid_out(study, tmp_path / "results")
    assert by_hand(results, "--evals", 4, "--params", json.dumps(FAST)) == 0
    own = results / "by_hand" / "tiny" / "ramp" / "3.65" / "0"
    record = read_json(own / "allocation.json")
    assert (record["method"], record["model"], record["search_evals"]) == ("ramp", "tiny", 4)
    assert {path.name for path in own.iterdir()} == {
        "allocation.json", "episodes.jsonl", "episodes.jsonl.sha256", "policy.json", "policy.safetensors",
        "summary.txt",
    }  # fmt: skip
    said = (own / "summary.txt").read_text()
    assert said.startswith("ramp on tiny at 3.65 bits, seed 0\n")
    assert f"{record['bytes_linear']} of {record['budget_bytes']}" in said
    assert by_hand(results, "--method", "knapsack") == 0
    assert (results / "by_hand" / "tiny" / "knapsack" / "3.65" / "0" / "allocation.json").is_file()


def test_what_is_missing_is_named_with_the_command_that_makes_it(study: dict[str, Any], tmp_path: Path) -> None:
    results = laid_out(study, tmp_path / "results")
    refused(AllocationError, {"did you mean 'tiny'": lambda: by_hand(results, model="tini")})
    shutil.rmtree(results / "bank/tiny/awq-gptq")
    (results / "sensitivity/tiny/awq-gptq.json").unlink()
    calls = {"/bank/tiny/awq-gptq/bank.json ": lambda: by_hand(results), "--bank": lambda: main(["--budget", "3.65"])}
    refused(AllocationError, calls)


def test_parts_of_text_are_scored_on_the_very_model(study: dict[str, Any], tmp_path: Path) -> None:
    record = call_ramp(study, tmp_path, 8, pool_windows=4, part_windows=1)
    rows = [json.loads(line) for line in (tmp_path / "artifacts" / "episodes.jsonl").read_text().splitlines()]
    assert [row["proposer"] for row in rows[:4]] == ["start"] * 4
    assert len(rows) == 15  # (8 - 3 kept) whole evaluations of three windows, one window a part
    assert record["search_evals"] <= 8
    assert rows[3]["kl"] > 1e-3
    assert record["kl_start"] > 1e-3
