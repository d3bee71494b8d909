"""The finished smoke run: its files agree with each other, and an edit reruns what it may change and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from calls import SMOKE, edit, smoke_plan, snakemake

from tests.sealed import read_json
from workflow.scripts.check_results import check

pytestmark = pytest.mark.workflow

DRAW = re.compile(r"\.draw[0-9]|-tuned")
BEFORE_SEARCH = {"fetch", "texts", "tasks", "train", "calibration", "fold", "bank", "sensitivity", "reference"}


# --- what the run left ---------------------------------------------------------------------------------------


def test_a_paper_a_report_and_figures_came_out(smoke: Path) -> None:
    assert (smoke / "paper" / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert "<html" in (smoke / "report.html").read_text(encoding="utf-8")[:2000].lower()
    figures = {file.stem for file in (smoke / "paper" / "figures").glob("*.png")}
    assert len(figures) >= 5
    assert figures == {file.stem for file in (smoke / "paper" / "figures").glob("*.pdf")}
    assert {file.suffix for file in (smoke / "paper" / "tables").iterdir()} >= {".tex", ".typ", ".md"}


def test_the_report_holds_the_figures(smoke: Path) -> None:
    text = (smoke / "report.html").read_text(encoding="utf-8")
    for figure in (smoke / "paper" / "figures").glob("*.png"):
        assert figure.name in text
    assert "index.html" in text, "the report's front page leads to the results page"


def test_the_results_page_says_how_to_make_every_row_and_that_it_is_no_evidence(smoke: Path) -> None:
    found = re.search(r'id="data">(.*?)</script>', (smoke / "index.html").read_text(encoding="utf-8"), re.S)
    assert found
    page = json.loads(found[1])
    assert page["missing"]
    for _, _, _, behind in page["rows"]["rows"]:
        file = re.search(r"metrics/\S+", behind["command"])
        assert file
        assert (smoke / file[0]).is_file()


def test_sizes_metrics_and_exports_are_sound(smoke: Path) -> None:
    """bytes_file is stat's and the sum of its parts, perplexities follow from windows, llama.cpp agreed."""
    found = check(smoke)
    failed = [one for one in found if not one["ok"]]
    assert not failed
    kinds = {re.sub(r"^(heldout|wikitext2): ", "", one["check"]).split(":")[0] for one in found}
    assert kinds >= {"parts sum to bytes_file", "bytes_file is stat's", "perplexity of the windows", "halo"}


def test_the_records_have_their_schema_and_every_row(smoke: Path) -> None:
    from ramp.records.table import read_table

    records = read_table(smoke / "records" / "records.csv")
    metrics = [file for file in (smoke / "metrics").glob("*/*.json") if not DRAW.search(str(file))]
    assert len(records) == len(metrics) > 10
    for name in ("windows", "allocations", "episodes", "activations", "transfer", "halo", "items"):
        assert len(read_table(smoke / "records" / f"{name}.csv")) > 0, name


def test_records_repeat_the_bytes_on_disk(smoke: Path) -> None:
    """Row by row, from the CSV back to the file that it speaks of."""
    from ramp.records.table import read_table

    records = read_table(smoke / "records" / "records.csv")
    compared = 0
    for meta_file in sorted((smoke / "quantized").glob("*/*/model.safetensors")):
        if DRAW.search(str(meta_file)):  # of another bank: banks.csv; with tuned scales: tuning.csv
            continue
        meta = read_json(meta_file.parent / "meta.json")
        same = records
        for key in ("model", "method", "grid", "stage", "fold", "seed"):
            same = same[same[key] == meta[key]]
        same = same[(same["budget_bits"] - meta["budget_bits"]).abs() < 1e-9]
        assert list(same["bytes_file"]) == [meta_file.stat().st_size], meta_file
        compared += 1
    assert compared > 8


def test_the_league_and_the_optimum_have_their_rows(smoke: Path) -> None:
    """Allocators on one bank at two checkpoints, and their gaps to the best of 27 allocations."""
    from ramp.records.table import read_table

    league = read_table(smoke / "records" / "league.csv")
    searched = league[league["allocator"].isin(["random_search", "ramp"])]
    assert sorted(searched["evals"]) == [6, 6, 12, 12]
    assert list(league[league["allocator"] == "knapsack"]["evals"]) == [1]
    assert league["kl_held"].notna().all()
    assert (league["tokens"] > 0).all()
    assert league["rtn_cost"].notna().all()
    ramp = searched[searched["allocator"] == "ramp"].set_index("evals")
    knapsack = league[league["allocator"] == "knapsack"].iloc[0]
    assert ramp.loc[12, "kl_start_held"] == knapsack["kl_held"]  # it starts from that very allocation of that very bank
    assert len(read_table(smoke / "records" / "league_windows.csv")) == 4 * len(league)
    assert set(read_table(smoke / "records" / "league_curves.csv")["allocator"]) == set(league["allocator"])
    optimum = read_table(smoke / "records" / "optimum.csv")
    assert set(optimum["allocator"]) == {"knapsack", "random_search"}
    assert (optimum["gap"] >= 0).all()
    assert (optimum["allocations"] <= 27).all()
    assert len(read_table(smoke / "records" / "additivity.csv")) == 3


def test_the_folds_ablation_has_its_rows(smoke: Path) -> None:
    """Three rows of RTN, and two folded float models that are the float model."""
    from ramp.records.table import read_table

    rows = read_table(smoke / "records" / "folding.csv")
    assert sorted(rows["file"]) == ["awq_w3", "awq_w3", "none", "sq50", "sq50"]
    alone = rows[rows["method"] == "float"]
    assert len(alone) == 2
    assert (alone["kl"].abs() < 1e-6).all()
    rounded = rows[rows["method"] == "rtn"]
    assert (rounded["kl"] > 1e-4).all()
    assert rounded["bytes_linear"].nunique() == 1
    assert len(read_table(smoke / "records" / "folding_windows.csv")) == 4 * len(rows)


def test_the_digests_are_of_the_files_that_are_there(smoke: Path) -> None:
    """Every stage of a whole study but the leaks, which this one has none of, and each file as it lies on the disk."""
    from ramp.records.intermediate_digests import STAGES, content_digest
    from ramp.records.study_digests import read_digests

    found = read_digests(smoke / "records" / "digests.json")["smoke"]
    assert [each.stage for each in found.stages] == [stage.name for stage in STAGES if stage.name != "leakage"]
    for each in found.stages:
        name, digest = next(iter(each.files.items()))
        assert content_digest(smoke / name) == digest, name


def test_rows_over_banks_are_compared_with_their_own_bank(smoke: Path) -> None:
    """The study's row, the same method on another draw of calibration text, and the first allocation on that draw."""
    from ramp.records.table import read_table

    rows = read_table(smoke / "records" / "banks.csv").set_index(["bank_seed", "allocation_bank"])
    assert sorted(rows.index) == [(0, 0), (1, 0), (1, 1)]
    assert rows["kl"].nunique() > 1
    assert (rows.loc[(1, 0), "kl_knapsack"] == rows.loc[(1, 1), "kl"]).all()
    study = read_table(smoke / "records" / "records.csv")
    same = study[(study["model"] == "tiny-llama-s") & (study["method"] == "knapsack")]
    assert list(same["kl_heldout"]) == [rows.loc[(0, 0), "kl"]]
    assert len(read_table(smoke / "records" / "banks_windows.csv")) == 2 * len(rows)
    shared = [smoke / "allocations" / f"tiny-llama-s{draw}" / "knapsack" / "3.65" / "0.json" for draw in ("", ".draw1")]
    first, other = (read_json(file)["bits"] for file in shared)
    row = read_json(smoke / "quantized" / "tiny-llama-s.draw1" / "knapsack-b3.65-s0-draw0" / "meta.json")
    assert row["bits"] == first
    assert set(first) == set(other)


def test_files_of_ours_are_at_most_as_large_as_the_mixes_beside_them(smoke: Path) -> None:
    """Two mixes with and without a matrix, and a file of ours beside each, whose checks hold."""
    from ramp.records.collect_gguf import WITHOUT_RIVAL
    from ramp.records.table import read_table

    rows = read_table(smoke / "records" / "gguf.csv")
    ours = rows[rows["rival"] != WITHOUT_RIVAL]
    assert len(ours) == len(rows) - len(ours) == 4
    assert (ours["bytes_file"] <= ours["rival_bytes_file"]).all()
    assert rows["kl"].gt(0).all()
    checks = read_table(smoke / "records" / "gguf_checks.csv")
    assert set(checks["file"]) == {"float.gguf", *ours["file"]}
    assert checks["ok"].all()
    assert (smoke / "paper" / "figures" / "frontier.png").is_file()


def test_mixed_rows_keep_their_budget(smoke: Path) -> None:
    compared = 0
    for file in sorted((smoke / "allocations").glob("*/*/*/*.json")):
        allocation = read_json(file)
        row = f"{allocation['method']}-b{allocation['budget_bits']:g}-s{allocation['seed']}"
        if allocation["method"] == "role_depth":  # fitted on the source for its transfer, no row of the source
            continue
        meta = read_json(smoke / "quantized" / file.parts[-4] / row / "meta.json")
        sizes = meta.get("sizes", meta)
        assert allocation["bytes_linear"] == sizes["bytes_linear"] <= allocation["budget_bytes"], row
        compared += 1
    assert compared >= 7


def test_both_policies_are_transferred(smoke: Path) -> None:
    """The network and the table of role and depth, each from its own search on the source."""
    from ramp.records.table import read_claims, read_table

    lines = read_table(smoke / "records" / "transfer.csv")
    assert set(lines["policy"]) == {"ramp", "role_depth"}
    assert lines["kl_transfer"].notna().all()
    for policy in ("ramp", "role_depth"):
        [file] = (smoke / "search").glob(f"*/{policy}/3.65/0/policy.json")
        assert read_json(file)["method"] == policy
    by_id = {claim["id"]: claim for claim in read_claims(smoke / "records" / "claims.json")}
    assert {claim["verdict"] for claim in by_id.values()} == {"not evidence", "not tested"}  # two windows, one seed
    assert by_id["C5"]["value"] is not None
    assert any("role_depth_transfer" in str(row) for row in by_id["C5"]["rows"])


def test_held_out_text_is_in_no_other_role(smoke: Path) -> None:
    """The guard's own claim, checked on the documents themselves."""

    def documents(role: str) -> set[str]:
        lines = (smoke / "texts" / f"{role}.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["text"] for line in lines}

    heldout = documents("heldout")
    assert heldout
    for role in ("calibration", "train", "search", "selection"):
        assert documents(role)
        assert not heldout & documents(role), role


# --- what an edit reruns -------------------------------------------------------------------------------------


def test_nothing_is_left_to_do_even_where_a_file_was_touched_without_an_edit(study: Path) -> None:
    (study / "ramp" / "rl" / "sac_discrete.py").touch()
    assert smoke_plan(study) == {}


def test_a_deleted_figure_is_redrawn_without_touching_a_model(study: Path) -> None:
    """Planned: that figure and what shows it. Drawn again: the same picture."""
    figure = study / SMOKE / "paper" / "figures" / "pareto.png"
    before = figure.read_bytes()
    figure.unlink()
    assert set(smoke_plan(study)) == {"figure", "paper", "html", "all"}
    done = snakemake(study, "figures", "--cores", "1", "--configfile", "config/smoke.yaml")
    assert done.status == 0, done.text
    assert done.plan == {"figure": 1, "figures": 1}
    assert figure.read_bytes() == before


def test_drawings_never_plan_model_work(study: Path) -> None:
    """Even where everything upstream has changed, figures, tables and paper are drawn from the records as they are."""
    edit(study / "ramp" / "models" / "folder.py")
    edit(study / "ramp" / "records" / "table.py")
    shutil.rmtree(study / SMOKE / "quantized")
    (study / SMOKE / "paper" / "figures" / "pareto.png").unlink()
    planned = set(smoke_plan(study, "figures", "tables", "paper"))
    assert planned <= {"figure", "figures", "tables", "claims", "paper"}, planned
    assert {"calibration", "bank", "quantize"} <= set(smoke_plan(study))  # a plan of everything has them


def test_an_edit_of_sac_reruns_the_search_and_what_follows(study: Path) -> None:
    edit(study / "ramp" / "rl" / "sac_discrete.py")
    done = snakemake(study, "-n", "--configfile", "config/smoke.yaml")
    assert done.status == 0, done.text
    plan = done.plan
    assert not (BEFORE_SEARCH | {"search"}) & set(plan), plan
    assert {"learn", "transfer", "quantize", "evaluate", "collect", "claims", "tables", "figure", "paper"} <= set(plan)
    assert set(re.findall(r"learning on (\S+): (\w+),", done.text)) == {("tiny-llama-s", "ramp")}
    quantized = set(re.findall(r"quantizing (\S+): (\w+),", done.text))
    assert {method for _, method in quantized} == {"ramp", "ramp_transfer"}


def test_an_edit_of_the_league_reruns_the_league_alone(study: Path) -> None:
    """No search of the study, no row, no model; what is drawn from the records follows."""
    edit(study / "ramp" / "league" / "__main__.py")
    plan = set(smoke_plan(study))
    assert {"league_run", "league_collect", "tables", "figure", "paper"} <= plan
    assert plan <= {
        "league_run", "league_collect", "optimum_run", "optimum_collect",
        "digests", "claims", "compare", "tables", "figure", "paper", "page", "html", "all",
    }  # fmt: skip


def test_an_edit_of_the_bank_leaves_what_is_before_it(study: Path) -> None:
    edit(study / "ramp" / "bank" / "bank.py")
    plan = set(smoke_plan(study))
    assert {"bank", "sensitivity", "search", "learn"} <= plan
    assert not {"fetch", "texts", "train", "calibration", "fold", "reference"} & plan


def test_a_changed_parameter_reruns_its_stage(study: Path) -> None:
    plan = smoke_plan(study, "--config", "sensitivity={windows: 5, length: 128}")
    assert {"sensitivity", "search", "collect"} <= set(plan)
    assert not {"train", "bank", "fold", "reference"} & set(plan)


def test_an_edit_of_the_drawing_code_redraws_only(study: Path) -> None:
    file = study / "paper" / "figures" / "pareto.py"
    edit(file)
    plan = set(smoke_plan(study))
    assert "figure" in plan
    assert plan <= {"figure", "paper", "page", "html", "all", "tables", "claims", "compare"}


# --- broken files --------------------------------------------------------------------------------------------


def test_missing_records_are_collected_again_without_touching_a_model(study: Path) -> None:
    (study / SMOKE / "records" / "records.csv").unlink()
    plan = set(smoke_plan(study))
    drawn = {"claims", "tables", "figure", "paper", "page", "html", "all"}
    assert plan - {"compare"} == {"collect", "digests", *drawn}


def test_a_damaged_weight_file_fails_the_check(study: Path) -> None:
    weights = study / SMOKE / "quantized" / "tiny-llama-s" / "rtn-b4-s0" / "model.safetensors"
    content, times = weights.read_bytes(), weights.stat()
    weights.unlink()  # it may share its bytes with the checkout
    weights.write_bytes(content[:-1])
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk does it: nothing looks newer
    failed = [one["check"] for one in check(study / SMOKE) if not one["ok"]]
    assert failed == ["bytes_file is stat's"]
    done = snakemake(
        study, "smoke_check", "--cores", "1", "--configfile", "config/smoke.yaml", "--forcerun", "smoke_check"
    )
    assert done.status != 0
    assert "rtn-b4-s0: bytes_file is stat's" in done.text
    assert re.search(r"^failed:\nsmoke_check: ", done.text, re.MULTILINE)  # the end of every failed run
