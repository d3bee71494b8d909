"""A league run by its command line on a real (random, two-layer) model, from the search to the records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas
import pytest

from ramp.bank.bank import Bank
from ramp.evaluation.bootstrap import interval
from ramp.league.__main__ import main
from ramp.league.acceptance import judgement
from ramp.league.acceptance import main as acceptance_main
from ramp.league.acceptance_record import LeagueError
from ramp.league.heldout_scorer import HeldoutScorer
from ramp.models.token_windows import token_windows
from ramp.problem.problem import decode
from ramp.records.collect_league import main as collect_main
from ramp.records.table import RecordsError, read_table
from ramp.search.journal import ROOT
from tests.model_folders import load_float, load_tokenizer
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.searchable import make_searchable, run_stage
from tests.tiny_models import exact_scores

WINDOWS, LENGTH, HELD_WINDOWS, HELD_LENGTH = 2, 32, 3, 40


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> dict[str, Any]:
    """Arguments of a run on ``tiny_llama_dir``, everything in place."""
    folder = tmp_path_factory.mktemp("league")
    return make_searchable(folder, tiny_llama_dir, [3, 4, 6]) | {
        "--heldout-text": folder / "heldout.jsonl",
        "--search-windows": WINDOWS,
        "--search-length": LENGTH,
        "--heldout-windows": HELD_WINDOWS,
        "--heldout-length": HELD_LENGTH,
        "--method-file": ROOT / "baselines" / "random_search.py",
        "--budget": 4,
        "--evals": 6,
        "--out": folder / "run.json",
    }


def call(study: dict[str, Any], checkpoints: tuple[int, ...] = (3, 6), **changed: Any) -> dict[str, Any]:
    return run_stage(main, study, "--checkpoints", *checkpoints, **changed)


@pytest.fixture(scope="module")
def run(study: dict[str, Any]) -> dict[str, Any]:
    found = call(study)
    assert not any(study["--state-dir"].iterdir())  # a finished run leaves no state
    return found


def test_held_out_sums_are_those_of_the_assembled_model_in_float64(study: dict[str, Any], run: dict[str, Any]) -> None:
    tokenizer, bank = load_tokenizer(study["--model-dir"]), Bank(study["--bank"])
    windows = token_windows(tokenizer, study["--heldout-text"], length=HELD_LENGTH, count=HELD_WINDOWS)
    row = run["rows"][-1]
    choice = zip(bank.linears, decode(row["choice"]), strict=True)
    weights = {linear.name: bank.dequantize(linear.name, bank.widths[index]) for linear, index in choice}
    kl, nll = (x.sum(-1) for x in exact_scores(load_float(study["--model-dir"]), windows, weights))
    assert [window["tokens"] for window in row["windows"]] == [HELD_LENGTH - 1] * HELD_WINDOWS
    assert [window["kl"] for window in row["windows"]] == pytest.approx(kl.tolist(), rel=1e-3)
    assert [window["nll"] for window in row["windows"]] == pytest.approx(nll.tolist(), rel=1e-4)
    assert row["kl_held"] == pytest.approx(float(kl.sum()) / (HELD_WINDOWS * (HELD_LENGTH - 1)), rel=1e-3)


def test_a_run_is_read_at_its_checkpoints(run: dict[str, Any]) -> None:
    assert [row["evals"] for row in run["rows"]] == [3, 6]
    assert run["spent"] == run["run_evals"] == 6
    assert run["start"] is None
    per_score = WINDOWS * LENGTH
    assert [row["tokens"] for row in run["rows"]] == [(3 + 3) * per_score, (6 + 5) * per_score]
    assert all(row["bytes_linear"] <= run["budget_bytes"] for row in run["rows"])
    assert run["curve"][-1]["kl_held"] is not None


def test_a_run_killed_while_it_was_judged_searches_and_judges_nothing_twice(
    study: dict[str, Any], run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = [0]
    scored = HeldoutScorer.windows_of

    def mortal(self: HeldoutScorer, choice: str) -> Any:
        if choice not in self.known:
            judged[0] += 1
            if judged[0] == 2:
                raise KeyboardInterrupt
        return scored(self, choice)

    monkeypatch.setattr(HeldoutScorer, "windows_of", mortal)
    with pytest.raises(KeyboardInterrupt):
        call(study, out=tmp_path / "again.json", state_dir=tmp_path / "state")
    (folder,) = (tmp_path / "state").iterdir()
    (journal,) = folder.glob("heldout-*.jsonl")
    with open(journal, "a", encoding="utf-8") as stream:
        stream.write('{"choice": "0')  # torn by the crash
    monkeypatch.setattr("ramp.scoring.kl_divergence.Scorer.score", lambda *_: pytest.fail("the search was journalled"))
    again = call(study, out=tmp_path / "again.json", state_dir=tmp_path / "state")
    distinct = {row["choice"] for row in run["rows"]} | {point["kl_held"] for point in run["curve"]}
    assert judged[0] <= len(distinct) + 1
    for key in ("rows", "curve"):
        for one, two in zip(run[key], again[key], strict=True):
            assert {k: v for k, v in one.items() if k != "wall_s"} == {k: v for k, v in two.items() if k != "wall_s"}


def test_runs_become_tables_with_intervals(study: dict[str, Any], run: dict[str, Any], tmp_path: Path) -> None:
    other = call(
        study,
        method_file=ROOT / "baselines" / "knapsack.py", name="sack", title="Sack", out=tmp_path / "sack.json",
    )  # fmt: skip
    assert (other["draw"], run["draw"]) == (0, 0)
    assert other["start"]["kl_held"] == other["rows"][0]["kl_held"]
    assert (
        collect_main(["league", "--runs", str(study["--out"]), str(tmp_path / "sack.json"), f"--out={tmp_path}"]) == 0
    )
    listed = tmp_path / "runs.txt"
    listed.write_text(f"{study['--out']}\n{tmp_path / 'sack.json'}\n")
    assert collect_main(["league", "--runs-from", str(listed), f"--out={tmp_path / 'again'}", "--planned=9"]) == 0
    for name in ("league_windows", "league_curves"):
        assert (tmp_path / "again" / f"{name}.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()
    table, again = read_table(tmp_path / "league.csv"), read_table(tmp_path / "again" / "league.csv")
    assert list(again["planned"]) == [9] * len(table)
    pandas.testing.assert_frame_equal(again.drop(columns="planned"), table.drop(columns="planned"))
    table = table.set_index(["allocator", "evals"])
    assert set(table.index) == {("random_search", 3), ("random_search", 6), ("sack", 1)}
    row = table.loc[("random_search", 6)]
    expected = interval(run["rows"][-1]["windows"], "kl")
    assert (row["kl_held"], row["ci_low"]) == pytest.approx((expected.value, expected.low))
    assert row["ci_high"] == pytest.approx(expected.high)
    assert row["ci_low"] < row["kl_held"] < row["ci_high"]
    assert (table.loc[("sack", 1)]["method"], table.loc[("sack", 1)]["title"]) == ("knapsack", "Sack")
    windows = read_table(tmp_path / "league_windows.csv")
    assert len(windows) == 3 * HELD_WINDOWS
    part = windows[(windows["allocator"] == "random_search") & (windows["evals"] == 6)]
    assert part["kl"].sum() / part["tokens"].sum() == pytest.approx(row["kl_held"])
    curves = read_table(tmp_path / "league_curves.csv")
    assert set(curves["allocator"]) == {"random_search", "sack"}
    banks = read_table(tmp_path / "league_banks.csv")
    assert banks.to_dict("records") == [{"model": run["model"], "bank": run["bank"], "bank_seed": 0}]


def test_a_bank_of_another_draw_is_named_as_such(study: dict[str, Any], tmp_path: Path) -> None:
    first = read_json(Path(study["--out"]))
    old = {key: value for key, value in first.items() if key != "draw"}  # of a run before there were draws
    for name, run in (("a", {**first, "bank": "drawn", "draw": 2}), ("b", old)):
        write_sealed(tmp_path / f"{name}.json", run)
    collect_main(["league", "--runs", str(tmp_path / "a.json"), str(tmp_path / "b.json"), f"--out={tmp_path}"])
    banks = read_table(tmp_path / "league_banks.csv")
    assert dict(zip(banks["bank"], banks["bank_seed"], strict=True)) == {"drawn": 2, first["bank"]: 0}


def test_runs_on_other_windows_are_not_put_into_one_table(study: dict[str, Any], tmp_path: Path) -> None:
    first = read_json(Path(study["--out"]))
    write_sealed(tmp_path / "a.json", first)
    write_sealed(tmp_path / "b.json", {**first, "seed": 1, "heldout": {**first["heldout"], "windows": 9}})
    write_sealed(tmp_path / "c.json", {})
    a, b, c = (str(tmp_path / f"{name}.json") for name in "abc")
    calls = {
        "differ in held-out windows": lambda: collect_main(["league", "--runs", a, b, f"--out={tmp_path}"]),
        "no run": lambda: collect_main(["league", f"--out={tmp_path}"]),
        "lacks model": lambda: collect_main(["league", "--runs", c, f"--out={tmp_path}"]),
    }
    refused(RecordsError, calls)


def test_a_model_that_rounding_does_not_hurt_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    words = ["--model-dir", study["--model-dir"], "--text", study["--selection-text"], "--windows", 2]
    words += ["--length", 32, "--group-size", 32, "--dtype", "float32", "--out", tmp_path / "accepted.json"]
    assert acceptance_main([str(word) for word in [*words, "--increase", 1000]]) == 0
    record = read_json(tmp_path / "accepted.json")
    assert not record["accepted"]
    assert record["increase"] == pytest.approx(record["perplexity_rtn"] / record["perplexity_float"] - 1)
    assert record["increase_own"] == pytest.approx(math.exp(record["kl_rtn"]) - 1)
    with pytest.raises(LeagueError, match="worth"):
        call(study, accepted=tmp_path / "accepted.json", out=tmp_path / "never.json")
    assert not (tmp_path / "never.json").exists()


def test_the_limit_of_acceptance_is_inclusive_and_destruction_counts() -> None:
    assert judgement(2.0, 2.0, math.log(1.1), 0.0999)["accepted"]
    assert not judgement(2.0, 2.5, math.log(1.09), 0.10)["accepted"]  # what it costs on the text is told alone
    assert judgement(2.0, 1.9, 0.0, 0.0)["accepted"]
    assert not judgement(2.0, 1.9, 0.0, 1e-9)["accepted"]
    assert judgement(2.0, float("inf"), float("inf"), 0.10) == {
        "perplexity_float": math.exp(2.0), "perplexity_rtn": None, "increase": None,
        "kl_rtn": None, "increase_own": None, "limit": 0.10, "accepted": True,
    }  # fmt: skip


def test_options_that_do_not_fit_are_refused(study: dict[str, Any], tmp_path: Path) -> None:
    never = {"out": tmp_path / "never.json"}
    for checkpoints in ((6, 3), (3,), (3, 12)):
        refused(LeagueError, {"--evals": lambda asked=checkpoints: call(study, asked, **never)})
    refused(LeagueError, {"lower-case": lambda: call(study, name="../x", **never)})
