"""The search's command line on a real (random, two-layer) model: its score against a plain float64 computation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ramp.bank import Bank, build_bank
from ramp.methods import MethodError
from ramp.models import list_linears, load_float, load_tokenizer, read_config
from ramp.problem import AllocationError
from ramp.resume import ROOT
from ramp.search import main
from ramp.text import Document, token_windows, write_documents

WINDOWS, LENGTH, GROUP_SIZE = 3, 40, 32


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> dict[str, Any]:
    """Command-line arguments of a search on ``tiny_llama_dir``, everything in place."""
    folder = tmp_path_factory.mktemp("study")
    for role, word in (("search", "alpha beta "), ("selection", "gamma delta ")):
        write_documents(folder / f"{role}.jsonl", [Document(f"{role}-{i}", word * 40 + str(i)) for i in range(3)])
    config = read_config(tiny_llama_dir)
    linears = list_linears(config)
    ones = {f"{x.site}/{kind}": torch.ones(x.d_in) for x in linears for kind in ("absmax", "absmean", "sqmean")}
    save_file(ones, folder / "stats.safetensors")
    save_file({}, folder / "none.safetensors")
    build_bank(
        tiny_llama_dir, None, folder / "bank",
        fold={}, fold_name="none", quantizer="rtn", widths=[3, 4, 5, 6], group_size=GROUP_SIZE, device="cpu",
    )  # fmt: skip
    proxy = {x.name: {str(bits): x.params * 4.0**-bits * 1e-5 for bits in (3, 4, 5, 6)} for x in linears}
    (folder / "proxy.json").write_text(json.dumps({"proxy": "fisher", "tokens": 300, "linears": proxy}))
    return {
        "--model-dir": tiny_llama_dir,
        "--bank": folder / "bank",
        "--fold": folder / "none.safetensors",
        "--calibration": folder / "stats.safetensors",
        "--sensitivity": folder / "proxy.json",
        "--search-text": folder / "search.jsonl",
        "--selection-text": folder / "selection.jsonl",
        "--search-windows": WINDOWS,
        "--search-length": LENGTH,
        "--method-file": ROOT / "baselines" / "knapsack.py",
        "--budget": 3.65,
        "--evals": 2,
        "--study": "test",
        "--device": "cpu",
        "--dtype": "float32",
        "--out": folder / "alloc.json",
        "--artifacts": folder / "artifacts",
        "--state-dir": folder / "state",
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
    assert len((tmp_path / "artifacts" / "episodes.jsonl").read_text().splitlines()) == 5


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
