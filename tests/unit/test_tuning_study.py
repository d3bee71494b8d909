"""Rows with tuned scales in the study: configuration, plan, records, tables, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paper.tables.main import main_table
from paper.tables.tuning import tuning_pairs_table, tuning_table
from paper.tuning import Tuned, tuning_values
from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.records.collect_tuning import main as collect_main
from ramp.records.table import RecordsError, read_table
from ramp.rows import tune
from ramp.study.planned_rows import Plan
from ramp.study.record_files import SECTION_TABLES, RecordFiles
from ramp.study.row_names import PlanError, Row
from ramp.study.validation import ConfigError
from tests.plans import files_of, plan_of
from tests.rows import row_key
from tests.sealed import read_json
from tests.synthetic_records import SOURCE, cells, synthetic_study
from tests.synthetic_tuning import ROWS, WINDOWS, tuning_records

S = "tiny-llama-s"


def smoke(**change: Any) -> Plan:
    return plan_of("smoke.yaml", tuning={"models": [S], "rows": ["rtn-b4", "knapsack-b3.65"], **change})


# --- configuration and plan ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        ({"models": ["tiny-lama-s"]}, ConfigError, r"tuning\.models: .*tiny-llama-s"),
        ({"rows": ["rtm-b4"]}, ConfigError, r"tuning\.rows: .*'rtm'.*'rtn'"),
        ({"rows": ["rtn"]}, ConfigError, "method.-b.bits"),
        ({"rows": ["rtn-b4", "rtn-b4"]}, ConfigError, "listed twice"),
        ({"steps": 0}, ConfigError, r"tuning\.steps"),
        ({"rate": 1.0}, ConfigError, r"tuning\.rate"),
        ({"step": 3}, ConfigError, "did you mean 'steps'"),
        ({"rows": ["rtn-b3.5"]}, PlanError, "whole width"),
        ({"rows": ["q4_k_m-b4"]}, PlanError, "allocator of ours"),
    ],
)
def test_faults_of_the_section_say_what_to_name(change: dict[str, Any], fault: type[Exception], words: str) -> None:
    with pytest.raises(fault, match=words):
        smoke(**change)


def test_every_row_has_a_tuned_one_on_every_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = smoke(draws=[0, 2])
    files = [file for file, as_it_is in plan.tuning.taken() if not as_it_is]
    assert files[:3] == [
        f"results/smoke/quantized/{S}/rtn-b4-s0-tuned/meta.json",
        f"results/smoke/metrics/{S}/rtn-b4-s0.json",
        f"results/smoke/metrics/{S}/rtn-b4-s0-tuned.json",
    ]
    assert len(files) == 4 * 3
    assert f"{S}.draw2" in plan.all_models
    assert plan.tuning.bases == ["knapsack-b3.65-s0", "rtn-b4-s0"]
    found = files_of(plan)
    row = "knapsack-b3.65-s0-tuned"
    assert found.weights(S, row) == [f"results/smoke/quantized/{S}/{row}/model.safetensors"]
    assert found.row_allocation(f"{S}.draw2", row) == [f"results/smoke/allocations/{S}.draw2/knapsack/3.65/0.json"]
    assert Row.parse(row).name == row
    none = smoke(models=[])
    assert none.tuning.taken() == []
    monkeypatch.chdir(tmp_path)  # where there are no results
    assert smoke(partial=True).tuning.taken() == []


def test_no_row_of_the_records_is_tuned() -> None:
    assert not [row for row in smoke().recorded_rows if row.ending == "tuned"]


def test_a_section_on_request_is_no_part_of_the_records_until_it_is_asked_for() -> None:
    def made(asked: list[str], on_request: bool) -> tuple[set[str], set[str]]:
        files = RecordFiles(smoke(on_request=on_request).study, "r", "p", lambda: asked)
        return set(files.own), {Path(file).stem for file, as_it_is in files.tables() if not as_it_is}

    tables = set(SECTION_TABLES["tuning"])
    own, drawn = made(["all"], on_request=False)
    assert tables <= own & drawn
    for asked, expected in ((["all"], set()), (["tuning", "paper"], tables)):
        own, drawn = made(asked, on_request=True)
        assert not tables & own
        assert tables & drawn == expected


def test_the_embedded_study_tunes_on_request_alone() -> None:
    plan = plan_of("config.yaml")
    assert plan.tuning.section.on_request
    assert plan.tuning.rows


def test_the_stage_takes_the_options_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the row, which is not there: every option is one that the stage has."""
    options = smoke(steps=7, rate=2e-3).tuning.options()
    assert options[:2] == ["--steps", "7"]
    paths = ["--row-dir", "--model-dir", "--text", "--state-dir", "--out"]
    files = [word for name in paths for word in (name, str(tmp_path / "none"))]
    assert cli.run(tune.main, [*options, *files]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


# --- records -------------------------------------------------------------------------------------------------


def finished(folder: Path, method: str = "rtn", kl: float = 0.2, **about: Any) -> str:
    """The files of one row before and after tuning, as words for the collector; tuned it has half the KL."""
    names = [folder / f"{method}-{name}.json" for name in ("meta", "before", "after")]
    schedule = {"steps": 4, "rate": 1e-3, "seed": 0, "tokens": 1024} | about
    write_json(names[0], {"tuned": schedule, "wall_s": 2.5}, sealed=True)
    for name, stage, factor in ((names[1], "final", 1.0), (names[2], "tuned", 0.5)):
        windows = [{"window": i, "tokens": 63, "nll": 100.0, "kl": 63 * factor * kl * (1 + 0.1 * i)} for i in range(3)]
        ends = dict.fromkeys(f"{name}{end}" for name in ("ppl", "kl") for end in ("", "_low", "_high"))
        text = {"length": 64, "windows": windows, **ends}
        write_json(
            name,
            {
                "key": row_key(stage=stage, method=method), "texts": {"heldout": text},
                "made": {"wall_s": 1.0}, "sizes": {"bytes_linear": 400}, "dtype": "float32", "commit": "c",
                "search": {"kind": "proxy"} if method == "knapsack" else None, "simulated": True, "note": "",
                "versions": {},
            },
            sealed=True,
        )  # fmt: skip
    return ",".join(map(str, names))


def test_rows_become_tables(tmp_path: Path) -> None:
    rows = [finished(tmp_path, method) for method in ("rtn", "knapsack")]
    assert collect_main(["--rows", *rows, "--out", str(tmp_path)]) == 0
    lines, windows = (read_table(tmp_path / f"{name}.csv") for name in SECTION_TABLES["tuning"])
    assert lines["mixed"].tolist() == [True, False]
    assert (lines["bank_seed"].tolist(), lines["wall_s"].tolist()) == ([0, 0], [2.5, 2.5])
    assert lines["ratio"].tolist() == pytest.approx([0.5, 0.5])
    assert lines["ratio_low"].tolist() == pytest.approx([0.5, 0.5])  # paired: all windows fall alike
    assert lines["kl_before"].tolist() == pytest.approx([0.22, 0.22])
    assert len(windows) == 2 * 2 * 3
    assert windows[windows["tuned"]]["kl"].sum() == pytest.approx(windows[~windows["tuned"]]["kl"].sum() / 2)


def test_rows_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    good, other = finished(tmp_path, "rtn"), finished(tmp_path, "knapsack", steps=5)
    meta, before, after = good.split(",")

    def refused(words: str, *rows: str) -> None:
        with pytest.raises(RecordsError, match=words):
            collect_main(["--rows", *rows, "--out", str(tmp_path)])

    refused("schedule of tuning", good, other)
    refused("not one row", ",".join([meta, other.split(",")[1], after]))
    refused("not one row", ",".join([meta, before, before]))
    refused("lacks tuned", ",".join([before, before, after]))
    damaged = read_json(Path(after))
    write_json(Path(after), damaged | {"texts": {}}, sealed=True)
    refused("no scores", good)
    with pytest.raises(SystemExit):
        collect_main(["--rows", meta, "--out", str(tmp_path)])


# --- tables, words -------------------------------------------------------------------------------------------


def test_every_row_stands_before_and_after_and_mixed_rows_beside_uniform_ones() -> None:
    study = synthetic_study(tuning_records())
    table = tuning_table(study)
    assert len(table.rows) == len(ROWS)
    line = cells(table, row="RTN, 4 bits")
    assert (line["before"], line["after"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert line["ratio"].value == line["ratio"].low == pytest.approx(0.5)
    assert line["reading"] == "better"
    pairs = tuning_pairs_table(study)
    assert len(pairs.rows) == 4  # two mixed rows beside two uniform methods, never beside the smaller three bits
    pair = cells(pairs, mixed="Fisher knapsack, 4 bits", uniform="AWQ + GPTQ, 4 bits")
    assert (pair["before"].value, pair["after"].value) == (pytest.approx(0.7), pytest.approx(0.14 / 0.16))
    assert pair["change"].value == pytest.approx((0.14 / 0.16) / 0.7)
    assert f"{WINDOWS} windows of held-out text on one bank" in " ".join(pairs.footnotes)


def test_over_banks_the_interval_runs_over_them() -> None:
    study = synthetic_study(tuning_records(banks=(0, 1, 2)))
    [first, *_] = Tuned(study).pairs
    assert first.before.banks == 3
    assert first.before.estimate.low is not None
    assert "3 banks" in " ".join(tuning_table(study).footnotes)


def test_words_name_the_strongest_uniform_row_and_what_is_left() -> None:
    values = dict(tuning_values(synthetic_study(tuning_records())))
    assert (values["tuning.rows"], values["tuning.tokens"], values["tuning.better"]) == ("5 rows", "61,440", "4")
    sentences = [text for key, text in values.items() if key.startswith("tuning.pair.")]
    assert len(sentences) == 2
    assert all("AWQ + GPTQ, 4 bits" in sentence and "over 1 bank" in sentence for sentence in sentences)
    assert not any("gains" in sentence for sentence in sentences)  # no reading of one bank
    values = dict(tuning_values(synthetic_study(tuning_records(banks=range(5)))))
    sentences = [text for key, text in values.items() if key.startswith("tuning.pair.")]
    assert all("AWQ + GPTQ, 4 bits" in sentence and "gains less" in sentence for sentence in sentences)


def test_records_without_such_rows_have_a_sentence_and_no_number() -> None:
    study = synthetic_study()
    assert not dict(tuning_values(study))
    assert not tuning_table(study).rows
    assert not tuning_pairs_table(study).rows


def test_other_tables_are_the_same_with_and_without_tuned_rows() -> None:
    assert main_table(synthetic_study(tuning_records()), SOURCE) == main_table(synthetic_study(), SOURCE)
