"""Files at the bytes of llama.cpp's mixes in the study: configuration, plan, records, table, figure, words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paper.figures.frontier import frontier
from paper.gguf import Files, gguf_values
from paper.naming import model_title
from paper.tables.gguf import gguf_table
from paper.tables.halo import halo_table
from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.errors import RampError
from ramp.export.llamacpp_check import Check
from ramp.gguf_format.type_names import MENU, MIXES
from ramp.quantizers.ggml import BLOCKS
from ramp.records.collect_gguf import COLUMNS, WITHOUT_RIVAL
from ramp.records.collect_gguf import main as collect_main
from ramp.records.digests import study_digests
from ramp.records.table import read_table
from ramp.sized_gguf import against_mixes
from ramp.study.planned_rows import Plan
from ramp.study.record_files import RecordFiles
from ramp.study.validation import ConfigError
from tests.plans import REPO, plan_of
from tests.synthetic_gguf import MIXES as SYNTHETIC
from tests.synthetic_gguf import OURS, file_row, gguf_checks, gguf_records, gguf_rows
from tests.synthetic_records import SOURCE, TARGET, cells, synthetic_study

S = "tiny-llama-s"


def smoke(**change: Any) -> Plan:
    return plan_of("smoke.yaml", gguf={"models": [S], **change})


# --- configuration and plan ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": ["tiny-lama-s"]}, r"gguf\.models: .*tiny-llama-s"),
        ({"mixes": ["Q4_KM"]}, r"gguf\.mixes: .*'Q4_KM'.*'Q4_K_M'"),
        ({"types": ["Q4_K", "IQ4_SX"]}, r"gguf\.types: .*'IQ4_SX'.*'IQ4_XS'"),
        ({"mixes": ["Q4_K_M", "Q4_K_M"]}, "listed twice"),
        ({"mixes": []}, r"gguf\.mixes"),
        ({"methods": ["knapsak"]}, r"gguf\.methods: .*'knapsak'.*'knapsack'"),
        ({"evals": 0}, r"gguf\.evals"),
        ({"heldout_windows": 0}, r"gguf\.heldout_windows"),
        ({"mixs": ["Q4_K_M"]}, "did you mean 'mixes'"),
    ],
)
def test_faults_of_the_section_name_the_key_and_the_nearest_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        smoke(**change)


def test_names_of_types_and_mixes_are_those_of_the_quantizers() -> None:
    assert set(MENU) <= set(BLOCKS)
    assert len(set(MIXES)) == len(MIXES)


def test_one_job_for_each_model_and_none_without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = smoke(models=[S, "tiny-llama-m"])
    files = [f"results/smoke/gguf/{model}/rows.json" for model in (S, "tiny-llama-m")]
    assert plan.gguf.files() == [(file, False) for file in files]
    other = plan_of("smoke.yaml", targets=[], gguf={"models": ["tiny-mistral"]})
    assert "tiny-mistral" in other.base_models  # a model of this section alone is trained, too
    none = smoke(models=[])
    assert none.gguf.files() == []
    tables = [RecordFiles(each.study, "r", "p", list).own for each in (plan, none)]
    assert set(tables[0]) - set(tables[1]) == {"gguf", "gguf_checks"}
    monkeypatch.chdir(tmp_path)  # where there are no results
    assert smoke(partial=True).gguf.files() == []


def test_the_stage_takes_the_options_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the model, which is not there: every option is one that the stage has."""
    options = smoke(mixes=["Q3_K_M"], types=["Q4_K", "Q6_K"], tokens=64).gguf.options()
    assert options[:7] == ["--mix", "Q3_K_M", "--method", "knapsack", "--types", "Q4_K", "Q6_K"]
    assert options[options.index("--tokens") + 1] == "64"
    paths = ["--model-dir", "--text", "--heldout-text", "--work", "--out"]
    files = [word for name in paths for word in (name, str(tmp_path / "none"))]
    assert cli.run(against_mixes.main, [*options, *files]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_every_method_has_a_file_beside_every_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuned beside tuned; each method chooses its own types, within the mix's bytes."""
    monkeypatch.setattr(against_mixes, "cheapest", lambda units: {})
    monkeypatch.setattr(against_mixes, "file_bytes", lambda *given: 1000)
    monkeypatch.setattr(against_mixes, "choose_types", lambda job, bank: (job.method, job.size, job.evals))

    def write(job: Any, bank: None, types: tuple[str, int, int]) -> tuple[Path, str]:
        job.out.write_text(f"{types} {job.tune_steps}")
        return job.out, "plan"

    monkeypatch.setattr(against_mixes, "write_model", write)
    monkeypatch.setattr(against_mixes, "check", lambda job, path, *rest: [Check(path.name, "loads", 1, 1, True)])
    monkeypatch.setattr(against_mixes, "float_file", lambda *given: tmp_path / "float.gguf")
    unlike = Check("", "tensors_unlike_llama_cpp", 0, 0, True)
    monkeypatch.setattr(against_mixes, "check_bytes", lambda path, *rest: replace(unlike, file=path.name))
    mixes = []
    for name, size, steps in (("small", 999, 0), ("a", 2000, 0), ("a-tuned9", 2000, 9)):
        (tmp_path / f"{name}.gguf").write_bytes(bytes(size))
        mixes.append(against_mixes.Made(tmp_path / f"{name}.gguf", "Q4_K_M", True, tuned_for=steps))
    (tmp_path / "file").mkdir()
    job = against_mixes.Job(None, "m", [], None, 0, None, None, tmp_path, tmp_path, 1, evals=7)  # type: ignore[arg-type]
    made, checks = against_mixes.our_files(job, None, mixes, ["knapsack", "ramp"])  # type: ignore[arg-type]
    assert [(each.method, each.path.name, each.rival) for each in made] == [
        (method, f"{method}-2000{ending}.gguf", tmp_path / f"a{ending}.gguf")
        for method in ("knapsack", "ramp")
        for ending in ("", "-tuned9")
    ]
    assert (tmp_path / "file" / "ramp-2000-tuned9.gguf").read_text() == "('ramp', 2000, 7) 9"
    assert [check.file for check in checks if check.check == "loads"] == [each.path.name for each in made]
    # tuned scales are no quantizer's
    assert [check.file for check in checks if check.check != "loads"] == ["knapsack-2000.gguf", "ramp-2000.gguf"]


# --- records -------------------------------------------------------------------------------------------------


def finished(folder: Path, model: str = S, **change: Any) -> Path:
    """The files that the stage leaves for one model."""
    write_json(folder / "rows.json", [row | change for row in gguf_rows(model)])
    write_json(folder / "checks.json", gguf_checks())
    write_json(folder / "windows.json", {})
    return folder / "rows.json"


def test_rows_and_checks_become_tables(tmp_path: Path) -> None:
    files = [finished(tmp_path / model, model) for model in (S, "tiny-llama-m")]
    assert collect_main(["--rows", *map(str, files), "--out", str(tmp_path)]) == 0
    rows, checks = (read_table(tmp_path / f"{name}.csv") for name in ("gguf", "gguf_checks"))
    assert len(rows) == 2 * 8
    mixes = rows[rows["rival"] == WITHOUT_RIVAL]
    assert len(mixes) == 2 * 4
    assert mixes["kl_ratio"].isna().all()
    ours = rows[(rows["model"] == S) & (rows["file"] == "knapsack-80000000.gguf")]
    assert sorted(ours["rival"]) == ["Q3_K_M-plain.gguf", "Q3_K_M.gguf"]  # one file, two mixes of the same bytes
    assert ours["kl"].nunique() == 1
    assert ours["kl_ratio"].nunique() == 2
    assert set(zip(checks["model"], checks["file"], strict=True)) == {
        (model, f"knapsack-{size}.gguf") for model in (S, "tiny-llama-m") for size, _ in SYNTHETIC.values()
    }


def test_columns_are_the_fields_of_a_row() -> None:
    assert set(COLUMNS) == set(against_mixes.Row.__dataclass_fields__)


def test_damaged_rows_are_refused(tmp_path: Path) -> None:
    file = finished(tmp_path / "m")
    out = ["--out", str(tmp_path)]
    for content, words in (
        ({}, "valid list"),
        ([{"model": S}], "lacks file"),
        ([*gguf_rows(S), *gguf_rows("other")], "2 models"),
        ([], "0 models"),
        ([*gguf_rows(S), gguf_rows(S)[0]], "Q3_K_M"),  # the same file twice
    ):
        write_json(file, content)
        with pytest.raises(RampError, match=words):
            collect_main(["--rows", str(file), *out])


def test_speeds_and_llama_cpps_own_measurements_are_no_content(tmp_path: Path) -> None:
    """A digest of a run tells weights and KLs from another's, and not how busy the machine was."""

    def digests(name: str, **change: Any) -> dict[str, str]:
        finished(tmp_path / name / "gguf" / S, **change)
        [stage] = study_digests(tmp_path / name).stages
        return stage.files

    first = digests("a")
    assert set(first) == {f"gguf/{S}/rows.json", f"gguf/{S}/windows.json"}
    assert first == digests("b", prompt_tokens_per_s=1.0, generation_tokens_per_s=2.0, peak_rss_bytes=3)
    assert first != digests("c", kl=0.5)


def test_memory_is_that_of_the_process_itself() -> None:
    """Not of the process that started it, which holds the float model: ``ru_maxrss`` would be."""
    held = np.ones(80_000_000)  # 640 MB
    code = "from ramp.sized_gguf.speed import own_peak_bytes; print(own_peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert 1e6 < int(done.stdout) < held.nbytes


# --- table, figure, words ------------------------------------------------------------------------------------


def test_every_file_has_a_line_and_ours_both_ratios() -> None:
    table = gguf_table(synthetic_study(gguf_records(SOURCE, TARGET)))
    assert len(table.rows) == 2 * 6
    assert len({row.group for row in table.rows}) == 4
    assert [row.cells["file"] for row in table.rows[:3]] == [
        "Q3_K_M, imatrix",
        "Q3_K_M, no matrix",
        "ours, Fisher knapsack",
    ]
    ours = table.rows[2].cells
    assert ours["size"] == 80_000_000 - 32
    assert ours["kl"].value == pytest.approx(OURS * 0.2)
    assert ours["ratio_matrix"].value == pytest.approx(OURS)
    assert ours["ratio_plain"].value == pytest.approx(OURS / 1.5)
    assert "ratio_matrix" not in table.rows[0].cells


def test_mixes_of_equal_bytes_share_our_file_and_keep_their_own_ratios() -> None:
    """On a small model two mixes may be the same types under two names."""
    records = gguf_records()
    theirs = file_row("Q3_K_L.gguf", "Q3_K_L", True, 80_000_000, 0.1) | {"rival": WITHOUT_RIVAL}
    ours = next(row for row in records["gguf"] if row["rival"] == "Q3_K_M.gguf")
    records["gguf"] += [theirs, ours | {"rival": "Q3_K_L.gguf", "kl_ratio": 1.6, "ratio_low": 1.5, "ratio_high": 1.7}]
    rows = [row.cells for row in gguf_table(synthetic_study(records)).rows if row.cells["file"].startswith("ours")]
    assert sorted(row["ratio_matrix"].value for row in rows) == pytest.approx([OURS, OURS, 1.6])
    assert [row["size"] for row in rows].count(80_000_000 - 32) == 2


def test_a_mix_below_our_smallest_file_stands_alone() -> None:
    records = gguf_records()
    records["gguf"] = [row for row in records["gguf"] if row["rival_bytes_file"] != 80_000_000]
    table = gguf_table(synthetic_study(records))
    assert [row.cells["file"] for row in table.rows].count("ours, Fisher knapsack") == 1
    assert len(table.rows) == 5


def test_the_verification_table_shows_our_files_too() -> None:
    study = synthetic_study(gguf_records(failed="types_differ"))
    row = cells(halo_table(study), file="knapsack-80000000.gguf (SmolLM2-135M-Instruct)")
    assert row["held"] == "1 of 2"
    assert row["failed"].startswith("types differ")
    assert row["difference"] == pytest.approx(0.012)
    assert len(halo_table(study).rows) == len(halo_table(synthetic_study()).rows) + 2


def test_the_figure_has_every_file_once_and_a_panel_per_model() -> None:
    drawn = frontier(synthetic_study(gguf_records(SOURCE, TARGET)))
    assert len(drawn.axes) == 2
    axis = drawn.axes[0]
    assert axis.get_yscale() == "log"
    points = {line.get_color(): list(zip(*line.get_data(), strict=True)) for line in axis.lines}
    assert len(points) == 3  # mixes with and without a matrix, and ours
    [ours] = [line for line in axis.lines if line.get_linestyle() == "-"]
    assert list(ours.get_xdata()) == pytest.approx([79.999968, 99.999968])
    assert list(ours.get_ydata()) == pytest.approx([OURS * 0.2, OURS * 0.05])
    assert sorted(text.get_text() for text in axis.texts) == sorted(SYNTHETIC)
    assert not [text for text in axis.texts if "released" in text.get_text()]  # its file is far smaller
    study = synthetic_study(gguf_records(SOURCE))
    released = study.frames["records"]["method"] == "released"
    study.frames["records"].loc[released, "bytes_file"] = 90_000_000
    assert "released q8_0 file,\nKL 0 by definition" in {text.get_text() for text in frontier(study).axes[0].texts}


def test_words_count_what_the_intervals_settle() -> None:
    values = dict(gguf_values(synthetic_study(gguf_records())))
    matrix, plain = ({key: values[f"gguf.{name}.{key}"] for key in ("pairs", "better", "outcome")}
                     for name in ("matrix", "plain"))  # fmt: skip
    words = f"{model_title(SOURCE)}: {{}} in all 2, {{}} times that of the mix"
    assert matrix == {
        "pairs": "2 comparisons", "better": "0", "outcome": words.format("within noise", f"{OURS:.2f}")
    }  # fmt: skip
    assert (plain["pairs"], plain["better"]) == ("2 comparisons", "2")
    assert plain["outcome"].startswith(f"{model_title(SOURCE)}: lower in all 2, ")


def test_files_of_a_second_method_stand_in_the_table_and_not_in_the_words() -> None:
    """The paper's text is about the knapsack."""
    records = gguf_records()
    ours = [row for row in records["gguf"] if row["method"] == "knapsack"]
    records["gguf"] += [
        row | {"method": "ramp", "file": row["file"].replace("knapsack", "ramp"), "kl_ratio": 0.1} for row in ours
    ]
    study = synthetic_study(records)
    assert dict(gguf_values(study)) == dict(gguf_values(synthetic_study(gguf_records())))
    titles = [row.cells["file"] for row in gguf_table(study).rows]
    assert titles.count("ours, Fisher knapsack") == 2
    assert len([title for title in titles if title.startswith("ours, RAMP")]) == 2


def test_records_without_such_files_have_a_sentence_and_no_number() -> None:
    study = synthetic_study()
    assert not Files(study).models
    assert not dict(gguf_values(study))
    assert not gguf_table(study).rows
    (axes,) = frontier(study).axes
    assert not axes.lines
    assert "no files" in axes.texts[0].get_text()
