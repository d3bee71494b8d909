"""The leakage meter: rows that saw text near the held-out text, in a section of their own and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paper.leakage import leak_lines, leakage_values
from paper.tables.leakage import leakage_table
from ramp.assets.leakage_texts import NO_LEAK, Leak
from ramp.core.atomic_files import write_json
from ramp.evaluation.heldout import Reference
from ramp.evaluation.scored_text import scored_documents
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import token_windows, write_documents
from ramp.records.collect import collect as collect_records
from ramp.records.collect_banks import main as collect_banks
from ramp.records.collect_leakage import main as collect_leakage
from ramp.records.collect_tuning import main as collect_tuning
from ramp.records.table import RecordsError, read_table
from ramp.scoring.kl_divergence import EvaluationError
from ramp.study.draws import base_model, split_draw
from ramp.study.leaked_models import calibrated_as, leaking, split_leak
from ramp.study.planned_rows import Plan
from ramp.study.record_files import SECTION_TABLES, RecordFiles
from ramp.study.row_names import PlanError
from ramp.study.text_needs import text_needs
from ramp.study.validation import ConfigError
from tests.plans import files_of, plan_of, values_of
from tests.refusals import refused
from tests.rows import row_key
from tests.synthetic_leakage import leakage_records
from tests.synthetic_records import cells, synthetic_study

M, S = "smollm2-135m", "tiny-llama-s"
TEST = {"calibration": "test", "search": "test"}
CONFIGS = ("config.yaml", "smoke.yaml", "league.yaml", "banks.yaml", "paper.yaml")


def embedded(**change: Any) -> Plan:
    return plan_of("config.yaml", leakage={"models": [M], **change})


# --- names and plan --------------------------------------------------------------------------------------------------


def test_names_of_leaks() -> None:
    both, name = Leak("test", "in_domain"), "m-1.7b.draw3.leak-test-in_domain"
    assert leaking("m-1.7b.draw3", both) == name
    assert leaking("m", NO_LEAK) == "m"
    assert split_leak(name) == ("m-1.7b.draw3", both)
    assert split_draw(name) == ("m-1.7b", 3)
    assert base_model("m.leak-own-test") == "m"
    assert split_leak("m.leak-own") == ("m.leak-own", NO_LEAK)
    assert [calibrated_as(each) for each in ("m", "m.leak-own-test", name)] == [
        "m", "m", "m-1.7b.draw3.leak-test-own",
    ]  # fmt: skip


def test_the_embedded_study_has_a_uniform_and_a_mixed_row_in_every_cell() -> None:
    """Its own search text is of the held-out text's source, its own calibration is not."""
    plan = embedded()
    leakage = plan.leakage
    found = {(row.row.short, *leakage.levels(row)): row.row.model for row in leakage.rows}
    assert found == {
        ("awq_gptq-b4", "disjoint", "none"): M,
        ("awq_gptq-b4", "in_domain", "none"): f"{M}.leak-in_domain-own",
        ("awq_gptq-b4", "test", "none"): f"{M}.leak-test-own",
        ("knapsack-b3.65", "disjoint", "in_domain"): M,
        ("knapsack-b3.65", "disjoint", "disjoint"): f"{M}.leak-own-disjoint",
        ("knapsack-b3.65", "in_domain", "in_domain"): f"{M}.leak-in_domain-own",
        ("knapsack-b3.65", "disjoint", "test"): f"{M}.leak-own-test",
        ("knapsack-b3.65", "test", "test"): f"{M}.leak-test-test",
    }
    assert set(found.values()) <= set(plan.all_models)
    assert not set(found.values()) - {M} & set(plan.base_models)
    assert leakage.words()[0] == f"disjoint,none,0=results/metrics/{M}/awq_gptq-b4-s0.json"
    assert plan_of("config.yaml").leakage.section.on_request


def test_each_cell_reads_its_own_text_and_shares_the_rest() -> None:
    plan = embedded(draws=[0, 2])
    files, values = files_of(plan), values_of(plan)
    test, texts = f"results/leakage/{M}/test.jsonl", "results/texts/{}.jsonl".format
    read = {
        M: ("calibration", "search", "selection"),
        f"{M}.leak-in_domain-own": ("train", "search", "selection"),
        f"{M}.leak-own-disjoint": ("calibration",) * 3,
        f"{M}.leak-own-test": ("calibration", None, None),
        f"{M}.leak-test-test": (None, None, None),
        f"{M}.draw2.leak-test-test": (None, None, None),
    }
    for name, roles in read.items():
        found = [files.text(name, role) for role in ("calibration", "search", "selection")]
        assert found == [test if role is None else texts(role) for role in roles], name
        assert files.proxy_text(name) == found[1]
        assert files.proxy_text(name, "error") == found[0]
        assert files.checkpoint(name) == f"results/models/{M}/asset.json"
        assert files.references(name)[0] == f"results/reference/{M}/heldout.safetensors"
    assert files.calibrated(f"{M}.leak-own-test") == M
    assert files.calibrated(f"{M}.draw2.leak-test-test") == f"{M}.draw2.leak-test-own"
    assert values.leak(M) == []
    assert values.leak(f"{M}.draw2.leak-test-own") == ["--leak", "test-own"]
    assert values.draw(f"{M}.draw2.leak-test-own") == ["--draw", "2"]
    assert "train:16x512" in text_needs(plan, M)
    assert not [need for need in text_needs(plan_of("config.yaml", leakage={}), M) if need.startswith("train")]


@pytest.mark.parametrize("config", CONFIGS)
def test_no_row_outside_the_section_sees_scored_text(config: str) -> None:
    """Whatever the section holds: every other model reads the study's roles, and every other list is without leaks."""
    models = {"config.yaml": M, "banks.yaml": M, "smoke.yaml": S, "league.yaml": S, "paper.yaml": "llama-2-7b"}
    cell = {"calibration": "in_domain", "search": "disjoint"} if config == "smoke.yaml" else TEST  # scores too little
    plan = plan_of(config, leakage={"models": [models[config]], "cells": [cell]}, depth="full")
    own = set(plan.leakage.names)
    leaks = {name for name in plan.all_models if split_leak(name)[1] != NO_LEAK}
    assert leaks
    assert leaks <= own
    files = files_of(plan)
    for name in set(plan.all_models) - leaks:
        for role in ("calibration", "search", "selection"):
            assert files.text(name, role) == f"{plan.study.results}/texts/{role}.jsonl"
    others = [*plan.recorded_rows, *plan.task_rows, *plan.gguf_rows, *plan.external_rows, *plan.tuning.rows]
    others += [each.row for each in plan.banks.rows]
    named = {row.model for row in others} | {run.model for run in plan.league.runs} | set(plan.folds.models)
    assert named
    assert not named & leaks


def test_a_leak_is_named_by_no_other_part_of_a_study() -> None:
    name = f"{S}.leak-test-test"
    bank = {"models": [name], "methods": ["knapsack"], "budgets": [3.65]}
    changes = {
        "source": {"source": name},
        "targets": {"targets": [name]},
        "league.grids.a.models": {"league": {"grids": {"a": {**bank, "checkpoints": [6]}}}},
        "optimum.models": {"optimum": {**bank, "widths": [3, 4]}},
        "banks.models": {"banks": bank},
        "fold_ablation.models": {"fold_ablation": {"models": [name], "folds": ["none", "awq"]}},
        "tuning.models": {"tuning": {"models": [name]}},
        "gguf.models": {"gguf": {"models": [name]}},
        "noise.models": {"noise": {"models": [name]}},
        "leakage.models": {"leakage": {"models": [name]}},
    }
    for where, change in changes.items():
        with pytest.raises(ConfigError, match=rf"{where}: '{name}' is calibrated or searched near the held-out text"):
            plan_of("smoke.yaml", **change)


OWN_TEXT = {"texts": {"calibration": "c4-train", "search": "c4-train", "selection": "c4-train", "heldout": "c4-train"}}


def test_a_section_that_cannot_be_measured_is_refused_with_the_reason() -> None:
    refused(
        PlanError,
        {
            "'q4_k_m-b4' is no row of a quantizer": lambda: embedded(rows=["q4_k_m-b4"]),
            "'rtn-b3.5' is no row of a quantizer": lambda: embedded(rows=["rtn-b3.5"]),
            "2 windows of 256 held-out tokens are scored, calibration wants 2,048": lambda: plan_of(
                "smoke.yaml", leakage={"models": [S], "cells": [TEST]}
            ),
            "no text for calibration disjoint": lambda: plan_of("config.yaml", leakage={"models": [M]}, **OWN_TEXT),
        },
    )
    with pytest.raises(ConfigError, match=r"leakage\.rows: .*'rtm'.*'rtn'"):
        embedded(rows=["rtm-b4"])
    with pytest.raises(ConfigError, match=r"cells\[0\]\.search: 'tests' is not known"):
        embedded(cells=[{"calibration": "test", "search": "tests"}])


@pytest.mark.parametrize(
    "change",
    [
        OWN_TEXT,
        {"calibration": {"tokens": 65_536}},
        {"evaluation": {"texts": ["heldout"], "target_texts": ["heldout"], "length": 512}},
    ],
)
def test_a_study_that_never_asks_is_not_refused(change: dict[str, Any]) -> None:
    """The embedded study has the section on request: a user's change of texts or sizes is no fault of it."""
    plan = plan_of("config.yaml", **change)
    assert not plan.leakage.models
    assert not plan.leakage.names
    with pytest.raises(PlanError, match="models: "):
        plan.leakage.files()


def test_the_section_waits_for_its_request() -> None:
    tables = set(SECTION_TABLES["leakage"])
    for on_request in (True, False):
        files = RecordFiles(embedded(on_request=on_request).study, "r", "p", lambda: ["all"])
        assert (tables <= set(files.own)) is not on_request
        assert bool(tables & set(files.own)) is not on_request


# --- text ------------------------------------------------------------------------------------------------------------


def test_scored_windows_come_back_as_tokens(tiny_llama_dir: Path, tmp_path: Path) -> None:
    model = ModelFolder(tiny_llama_dir)
    words = "The bank holds every linear at every width, packed and checked. " * 40
    ids = model.tokenizer()(words, add_special_tokens=False)["input_ids"]
    windows = torch.tensor([ids[:64], ids[100:164]])
    reference = Reference(torch.zeros(2, 64, 4), torch.zeros(2, 63), windows, {"model": model.name, "length": 64})
    documents = scored_documents(model, reference)
    write_documents(tmp_path / "test.jsonl", documents)
    found = token_windows(model.tokenizer(), tmp_path / "test.jsonl", length=64, count=1, spread=False)
    assert found[0].tolist() == ids[:64]
    reference.about["model"] = "another"
    with pytest.raises(EvaluationError, match="of another, not of"):
        scored_documents(model, reference)


# --- records ---------------------------------------------------------------------------------------------------------


def metrics(folder: Path, name: str, kl: float, leak: str = "", draw: int = 0, **key: Any) -> Path:
    """A metrics file of four windows."""
    windows = [{"window": i, "tokens": 63, "nll": 180.0, "kl": 63 * kl * (1 + 0.1 * i)} for i in range(4)]
    text = {"length": 64, "windows": windows, "ppl": 20.0, "ppl_low": 19.0, "ppl_high": 21.0}
    text |= {"kl": 1.15 * kl, "kl_low": kl, "kl_high": 1.3 * kl}
    made = {"track": "q8_0"} | ({"leak": leak} if leak else {}) | ({"draw": draw} if draw else {})
    value = {"key": row_key(**key), "texts": {"heldout": text}, "made": made, "sizes": {"bytes_linear": 400}}
    value |= {"simulated": True, "search": None, "note": "", "versions": {}, "dtype": "float32", "commit": "abc"}
    write_json(folder / name, value | {"hardware": "abacus"}, sealed=True)
    return folder / name


def test_rows_become_tables_with_ratios_to_the_studys_own(tmp_path: Path) -> None:
    rows = [
        f"disjoint,in_domain,0={metrics(tmp_path, 'own.json', 0.2, method='knapsack')}",
        f"test,test,0={metrics(tmp_path, 'leak.json', 0.1, 'test-test', method='knapsack')}",
        f"in_domain,in_domain,0={metrics(tmp_path, 'near.json', 0.3, 'in_domain-own', method='knapsack')}",
        f"test,none,0={metrics(tmp_path, 'alone.json', 0.1, 'test-own')}",
    ]
    assert collect_leakage(["--rows", *rows, "--out", str(tmp_path / "out")]) == 0
    lines, windows = (read_table(tmp_path / "out" / f"{name}.csv") for name in SECTION_TABLES["leakage"])
    found = lines.set_index(["method", "calibration", "search"])
    assert found.loc[("knapsack", "disjoint", "in_domain"), "own"]
    assert found.loc[("knapsack", "test", "test"), ["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx(
        [0.5] * 3
    )  # paired: all windows fall alike
    assert found.loc[("knapsack", "in_domain", "in_domain"), "ratio"] == pytest.approx(1.5)
    assert lines["ratio"].isna().sum() == 2  # the own row, and one whose own row was not named
    assert found.loc[("rtn", "test", "none"), "kl"] == pytest.approx(0.115)
    assert set(lines["text"]) == {"heldout"}
    assert len(windows) == 4 * 4


def test_a_row_of_other_text_or_draw_than_its_name_is_refused(tmp_path: Path) -> None:
    own, leak = metrics(tmp_path, "own.json", 0.2), metrics(tmp_path, "leak.json", 0.1, "test-own", draw=2)

    def collected(*rows: str) -> None:
        collect_leakage(["--rows", *rows, "--out", str(tmp_path / "out")])

    refused(
        RecordsError,
        {
            "leak test-own, not of in_domain, none of draw 2": lambda: collected(f"in_domain,none,2={leak}"),
            "was made of draw 2 and leak test-own": lambda: collected(f"test,none,0={leak}"),
            "was made of draw 0 and leak none": lambda: collected(f"disjoint,none,1={own}"),
            "was made of draw 0 and leak none, not of test": lambda: collected(f"test,none,0={own}"),
            "two rows named": lambda: collected(f"test,none,2={leak}", f"test,none,2={leak}"),
        },
    )
    with pytest.raises(SystemExit):
        collected(f"tests,none,0={own}")
    assert not (tmp_path / "out").exists()


def test_no_other_table_takes_a_row_that_saw_scored_text(tmp_path: Path) -> None:
    """Not the records, by its metrics or its meta.json, not the banks, not the tuned rows; nothing is written."""
    leak, out = metrics(tmp_path, "leak.json", 0.1, "own-test"), tmp_path / "out"
    own, meta = metrics(tmp_path, "own.json", 0.2), tmp_path / "meta.json"
    write_json(meta, row_key() | {"leak": "test-test", "tuned": {"seed": 0}, "wall_s": 1.0}, sealed=True)
    words = "near the held-out text"
    refused(
        RecordsError,
        {
            f"{words} (own-test)": lambda: collect_records(metrics=[leak], out=out),
            f"{words} (test-test)": lambda: collect_records(metrics=[own], rows=[meta], out=out),
            f"{leak} was calibrated or searched": lambda: collect_banks(
                ["--rows", f"rtn,0,0={leak}", "--out", str(out)]
            ),
            f"{leak} was calibrated": lambda: collect_tuning(["--rows", f"{meta},{own},{leak}", "--out", str(out)]),
        },
    )
    assert not out.exists()


# --- paper -----------------------------------------------------------------------------------------------------------


def test_the_table_and_the_sentence_say_what_each_leak_buys() -> None:
    study = synthetic_study(leakage_records())
    table = leakage_table(study)
    assert len(table.rows) == 5
    both = cells(table, calibration="the scored windows themselves", search="the scored windows themselves")
    assert both["kl"] == pytest.approx(0.12)
    assert both["ratio"].value == pytest.approx(0.75)
    assert both["reading"] == "better"
    alone = cells(table, row="Fisher knapsack at 3.65 bits", calibration="text of another source",
                  search="the scored windows themselves")  # fmt: skip
    assert alone["reading"] == "within noise"
    assert [row.cells["reading"] for row in table.rows].count("the study's own") == 2
    said = dict(leakage_values(study))
    assert said["leakage.runs"] == "12 windows of held-out text on one bank"
    [uniform, mixed] = [text for key, text in said.items() if key.startswith("leakage.row.")]
    assert "calibrated on the scored windows themselves 0.900" in uniform
    assert "calibrated and searched on the scored windows themselves 0.750" in mixed
    assert "searched on the scored windows themselves 1.000 [0.9" in mixed


def test_over_draws_the_interval_runs_over_banks() -> None:
    lines = [line for line in leak_lines(synthetic_study(leakage_records(banks=(0, 1, 2)))) if line.ratio]
    assert {line.ratio.banks for line in lines if line.ratio} == {3}


def test_nothing_is_said_where_nothing_was_measured() -> None:
    study = synthetic_study()
    assert not leakage_table(study).rows
    assert not dict(leakage_values(study))
