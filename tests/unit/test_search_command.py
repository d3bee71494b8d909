"""The search's command line on a real (random, two-layer) model: its score against a plain float64 computation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ramp.bank.bank import Bank
from ramp.methods.kinds import MethodError
from ramp.models.token_windows import token_windows
from ramp.problem.problem import AllocationError, decode
from ramp.search.__main__ import main
from ramp.search.resume import ROOT
from tests.model_folders import load_float, load_tokenizer
from tests.searchable import make_searchable

WINDOWS, LENGTH = 3, 40


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


def call(study: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Run ``main``; ``changed`` by option name without dashes."""
    options = study | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    assert main([str(part) for pair in options.items() for part in pair]) == 0
    return json.loads(Path(options["--out"]).read_text())


def test_the_score_is_the_kl_of_the_assembled_model(study: dict[str, Any]) -> None:
    record = call(study)
    model = load_float(study["--model-dir"]).double()
    tokenizer = load_tokenizer(study["--model-dir"])
    windows = token_windows(tokenizer, study["--search-text"], length=LENGTH, count=WINDOWS)
    with torch.no_grad():
        log_p = model(windows).logits[:, :-1].log_softmax(-1)
        bank = Bank(study["--bank"])
        for name, bits in record["bits"].items():
            model.get_submodule(name).weight.copy_(bank.quantized(name, bits).dequantize())
        log_q = model(windows).logits[:, :-1].log_softmax(-1)
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    nll = float(-log_q.gather(-1, windows[:, 1:, None]).mean())
    assert kl > 1e-3
    assert record["kl_search"] == pytest.approx(kl, rel=5e-3)
    assert record["ppl_search"] == pytest.approx(torch.tensor(nll).exp().item(), rel=1e-3)
    assert record["search_tokens"] == 300 + WINDOWS * LENGTH
    assert record["quantizer"] == "rtn"
    assert not any(study["--state-dir"].iterdir())  # a finished search leaves no state


def test_ramp_runs_and_leaves_its_policy(study: dict[str, Any], tmp_path: Path) -> None:
    params = {"updates_per_episode": 1, "clone_steps": 5, "distil_steps": 5, "sac": {"hidden": 8}}
    record = call(
        study,
        method_file=ROOT / "baselines" / "ramp.py",
        params=json.dumps(params),
        evals=5,
        out=tmp_path / "alloc.json",
        artifacts=tmp_path / "artifacts",
    )
    assert record["search_evals"] == 5
    assert record["kl_selection"] <= record["kl_start_selection"]
    about = json.loads((tmp_path / "artifacts" / "policy.json").read_text())
    assert about["method"] == "ramp"
    assert about["budgets"] == [3.65]
    episodes = [json.loads(line) for line in (tmp_path / "artifacts" / "episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 5
    bank = Bank(study["--bank"])
    for row in episodes:  # what was scored can be read back, whoever proposed it
        assert row["bytes"] == int(bank.bytes()[range(len(bank.linears)), decode(row["choice"])].sum())


def test_finalists_may_meet_on_more_text_than_is_searched_on(study: dict[str, Any], tmp_path: Path) -> None:
    chance = {"method_file": ROOT / "baselines" / "random_search.py", "evals": 3, "artifacts": tmp_path / "artifacts"}
    plain = call(study, **chance, out=tmp_path / "plain.json")
    more = call(study, **chance, selection_windows=2 * WINDOWS, out=tmp_path / "more.json")
    spent = plain["selection_evals"] * WINDOWS * LENGTH
    assert spent > 0
    assert more["search_tokens"] == plain["search_tokens"] + spent  # the same finalists on twice the text, charged
    assert more["kl_selection"] != plain["kl_selection"]


def test_faults_are_one_sentence(study: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AllocationError, match=r"cheapest \d+ \(3\.00 bits\); raise the budget"):
        call(study, budget=2.5)
    with pytest.raises(MethodError, match="is a uniform method"):
        call(study, method_file=ROOT / "baselines" / "rtn.py")
    with pytest.raises(MethodError, match="--params is not valid JSON"):
        call(study, params="{")
    with pytest.raises(MethodError, match=r"unknown key 'upates_per_episode' .did you mean 'updates_per_episode'"):
        call(study, method_file=ROOT / "baselines" / "ramp.py", params='{"upates_per_episode": 1}')
    with pytest.raises(ValueError, match="no sensitivity at"):
        call(study, sensitivity=tmp_path / "absent.json")


def laid_out(study: dict[str, Any], results: Path) -> Path:
    """A results folder as the workflow lays it out, by links to ``study``'s files."""
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
    return results


def by_hand(results: Path, *extra: object, model: str = "tiny") -> int:
    """``python -m ramp.search`` with a model, a budget and a results folder."""
    size = ("--search-windows", WINDOWS, "--search-length", LENGTH, "--device", "cpu", "--dtype", "float32")
    said = ["--model", model, "--budget", 3.65, "--results", results, *size, *extra]
    return main([str(part) for part in said])


def test_a_model_and_a_budget_are_enough(study: dict[str, Any], tmp_path: Path) -> None:
    results = laid_out(study, tmp_path / "results")
    params = json.dumps({"updates_per_episode": 1, "clone_steps": 5, "distil_steps": 5, "sac": {"hidden": 8}})
    assert by_hand(results, "--evals", 4, "--params", params) == 0
    own = results / "by_hand" / "tiny" / "ramp" / "3.65" / "0"
    record = json.loads((own / "allocation.json").read_text())
    assert (record["method"], record["model"], record["search_evals"]) == ("ramp", "tiny", 4)
    assert {path.name for path in own.iterdir()} == {
        "allocation.json", "episodes.jsonl", "policy.json", "policy.safetensors", "summary.txt",
    }  # fmt: skip
    said = (own / "summary.txt").read_text()
    assert said.startswith("ramp on tiny at 3.65 bits, seed 0\n")
    assert f"{record['bytes_linear']} of {record['budget_bytes']}" in said
    assert by_hand(results, "--method", "knapsack") == 0
    assert (results / "by_hand" / "tiny" / "knapsack" / "3.65" / "0" / "allocation.json").is_file()


def test_what_is_missing_is_named_with_the_command_that_makes_it(study: dict[str, Any], tmp_path: Path) -> None:
    results = laid_out(study, tmp_path / "results")
    with pytest.raises(AllocationError, match=r"no model 'tini' .*did you mean 'tiny'.*asset.json"):
        by_hand(results, model="tini")
    (results / "bank/tiny/awq-gptq").unlink()
    (results / "sensitivity/tiny/awq-gptq.json").unlink()
    with pytest.raises(AllocationError, match=r"snakemake --cores all \S+/bank/tiny/awq-gptq/bank.json \S+json`"):
        by_hand(results)
    with pytest.raises(AllocationError, match="neither --model-dir, --bank, --calibration"):
        main(["--budget", "3.65"])


def test_parts_of_text_are_scored_on_the_very_model(study: dict[str, Any], tmp_path: Path) -> None:
    params = {
        "updates_per_episode": 1,
        "clone_steps": 5,
        "distil_steps": 5,
        "sac": {"hidden": 8},
        "pool_windows": 4,
        "part_windows": 1,
    }
    record = call(
        study,
        method_file=ROOT / "baselines" / "ramp.py",
        params=json.dumps(params),
        evals=8,
        out=tmp_path / "alloc.json",
        artifacts=tmp_path / "artifacts",
    )
    rows = [json.loads(line) for line in (tmp_path / "artifacts" / "episodes.jsonl").read_text().splitlines()]
    assert [row["proposer"] for row in rows[:4]] == ["start"] * 4
    assert len(rows) == 15  # (8 - 3 kept) whole evaluations of three windows, one window a part
    assert record["search_evals"] <= 8
    assert rows[3]["kl"] > 1e-3
    assert record["kl_start"] > 1e-3
