"""Plans of Snakemake in a bare checkout, without a network: configurations, their faults, working directories."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import PUBLISHED, REPO, Done, module, snakemake

from ramp.plan.table import stage_of
from tests.plans import plan_of

Plan = Callable[..., Done]  # a dry run in a checkout without results that nobody changes
MODEL_RULES = {
    "train",
    "model",
    "calibration",
    "fold",
    "bank",
    "sensitivity",
    "search",
    "learn",
    "quantize",
    "evaluate",
}


@pytest.mark.parametrize("file", ["smoke", "paper", "league"])
def test_every_study_plans_from_nothing(plan: Plan, file: str) -> None:
    """From a bare checkout, with the hub switched off."""
    done = plan("--configfile", f"config/{file}.yaml")
    assert done.status == 0, done.text
    assert done.plan["learn"] > 0
    assert "Reason: " not in done.text
    assert done.plan["paper"] == done.plan["html"] == done.plan["collect"] == 1


def test_the_default_study_needs_no_argument_and_takes_single_keys(plan: Plan) -> None:
    quick, full = plan(), plan("--config", "depth=full")
    assert quick.status == full.status == 0, quick.text + full.text
    assert full.plan["quantize"] > quick.plan["quantize"]
    assert full.plan["fetch"] == quick.plan["fetch"]
    assert full.plan["digests"] == full.plan["compare"] == 1
    assert "package" not in quick.plan
    assert full.plan["package"] == full.plan["package_row"] >= 3
    assert full.plan["environment"] >= 1


def test_controls_are_planned_in_full_depth_alone(plan: Plan) -> None:
    """Six mixes from one float file, three rows in a second track, without a bank or a search for them."""
    quick, full = plan().plan, plan("--config", "depth=full").plan
    assert not {"static_mix", "track"} & set(quick)
    assert (full["static_mix"], full["track"]) == (6, 3)
    assert full["bank"] == quick["bank"]
    assert full["halo_float"] == 1
    one = plan("--config", "halo={methods: []}", "depths={quick: {extra_methods: [q4_k_s]}}").plan
    assert (one["static_mix"], one["halo_float"]) == (1, 1)
    assert "calibration" in one
    assert "halo_check" not in one


PRIORITIES = """
import json, sys
from pathlib import Path
from ramp.plan.dry_run import planned_jobs
from ramp.study.temporary_files import passes

study = json.loads(sys.argv[2])
lines = []
for job in planned_jobs(Path("Snakefile"), [Path(sys.argv[1])], study):
    reads, makes = (any(passes(file.split("/", 2)[-1]) for file in files) for files in (job.inputs, job.outputs))
    lines.append([job.rule, job.priority, reads, makes])
print(json.dumps(lines))
"""


@pytest.mark.parametrize(
    ("file", "readers"),
    [
        ("paper", "sensitivity search learn transfer evaluate tasks_scored track static_mix halo_check package_row"),
        ("league", "league_run enumeration"),
    ],
)
def test_readers_of_what_passes_go_before_what_makes_more(untouched: Path, file: str, readers: str) -> None:
    """Jobs that read a bank or a row run first, references before them: few of these files lie there at once."""
    words = [sys.executable, "-c", PRIORITIES, f"config/{file}.yaml", json.dumps({"keep": "results"})]
    done = subprocess.run(words, cwd=untouched, capture_output=True, text=True, check=True)
    jobs = json.loads(done.stdout.splitlines()[-1])
    reading = {rule: priority for rule, priority, reads, _ in jobs if reads}
    making = {rule: priority for rule, priority, reads, makes in jobs if makes and not reads}
    assert {*readers.split()} <= {*reading}
    assert {"bank"} <= {*making}
    assert min(reading.values()) > max(making.values())
    waited = [priority for rule, priority, _, _ in jobs if rule == "reference"]
    assert waited
    assert min(waited) > max(reading.values())


def test_the_plan_has_the_jobs_of_a_dry_run(untouched: Path, plan: Plan, tmp_path: Path) -> None:
    """`python -m ramp plan`, stage by stage, before anything is there."""
    smoke, table = ("--configfile", "config/smoke.yaml"), tmp_path / "plan.csv"
    done = module(untouched, "ramp", "plan", *smoke, "--device", "cpu", "--csv", str(table))
    assert done.status == 0, done.text
    counted: dict[str, int] = {}
    for rule, jobs in plan(*smoke).plan.items():
        if rule != "all":
            counted[stage_of(rule)] = counted.get(stage_of(rule), 0) + jobs
    with table.open(newline="") as file:
        found = {row["stage"]: int(row["jobs"]) for row in csv.DictReader(file)}
    assert found.pop("total") == sum(counted.values())
    assert found == counted
    refused = module(untouched, "ramp", "plan", *smoke, "--device", "h2000")
    assert refused.status == 2
    assert refused.text.startswith("error: no device 'h2000'")


def test_the_published_plan_of_the_paper_is_up_to_date(untouched: Path, tmp_path: Path) -> None:
    """Else run the two commands of docs/paper-scale.md."""
    page, table = Path(shutil.copy(untouched / "docs" / "paper-scale.md", tmp_path)), tmp_path / "plan.csv"
    before = page.read_text(encoding="utf-8")
    published = untouched / PUBLISHED / "plan_paper.csv"
    command = ("ramp", "plan", "--configfile", "config/paper.yaml", "--device", "h200", "--page", str(page))
    done = module(untouched, *command, "--csv", str(table))
    assert done.status == 0, done.text
    assert table.read_bytes() == published.read_bytes()
    assert page.read_text(encoding="utf-8") == before


def test_files_that_pass_are_deleted_where_a_study_keeps_its_results_alone(plan: Plan) -> None:
    """Banks, rows, float files, what packages leave; nothing where it keeps all."""
    smoke = ("--configfile", "config/smoke.yaml")
    assert "temporary output" not in plan(*smoke).text
    text = plan(*smoke, "--config", "keep=results").text
    gone = {Path(name.rstrip(".")) for name in re.findall(r"temporary output (\S+)", text)}
    assert {path.name for path in gone} == {"bank.safetensors", "model.safetensors", "model.gguf", "float-b16-s0.gguf"}
    rows = {path.parent.name for path in gone if path.name == "model.safetensors"}
    assert {"rtn-b4-s0", "ramp-b3.65-s0", "knapsack-b3.65-s0-draw0"} <= rows


def test_other_sensitivities_are_planned_where_a_method_names_them(plan: Plan) -> None:
    """One per kind and bank, and Fisher's beside them only for those who want it; the study has two banks of those."""
    smoke = ("--configfile", "config/smoke.yaml", "--config", "targets=[]")
    assert "proxy" not in plan(*smoke).plan
    methods = "methods=[rtn,awq_gptq,knapsack_kl,knapsack_error,knapsack_error_plain,greedy_kl,uniform,ramp]"
    done = plan("-p", *smoke, methods)
    assert done.status == 0, done.text
    assert (done.plan["proxy"], done.plan["sensitivity"]) == (4, 2)
    assert "awq-gptq-kl_cheapest.json" in done.text


def test_comparisons_are_planned_where_they_are_asked_for_alone(plan: Plan) -> None:
    """``snakemake parity`` makes environments and one table; a study makes neither."""
    done = plan("parity")
    assert done.status == 0, done.text
    assert done.plan["comparison"] == 3
    assert done.plan["environment"] == 2
    assert done.plan["compared"] == 1
    assert "collect" not in done.plan
    assert "comparison" not in plan().plan


def test_published_comparisons_are_planned_by_their_own_commands(plan: Plan) -> None:
    """The commands under "made by" in the tables are what a stranger types: all at once, one job for each."""
    files = [REPO / "results" / "published" / f"{name}.csv" for name in ("benchmarks", "parity")]
    commands = sorted({row["command"] for file in files for row in csv.DictReader(file.open(newline=""))})
    assert commands
    words = [shlex.split(command) for command in commands]
    assert {tuple(each[:3]) for each in words} == {("snakemake", "--cores", "all")}
    targets = [target for each in words for target in each[3:]]
    done = plan("--cores", "all", *targets)
    assert done.status == 0, done.text
    assert done.plan["comparison"] == len(targets) == len(commands)


def test_another_studys_table_of_comparisons_names_its_configuration(plan: Plan) -> None:
    """So that its commands start that study; ``local`` names the file as seen from the working directory."""
    table = "results/smoke/records/parity.csv"
    done = plan("-p", table, "--configfile", "config/smoke.yaml")
    assert done.status == 0, done.text
    assert "--results results/smoke --configfiles config/smoke.yaml --out" in done.text


def test_files_beside_mixes_are_planned_by_model_and_without_the_study(plan: Plan) -> None:
    """One job for each model, from its checkpoint and two texts; a study that has the section makes them too."""
    done = plan("gguf", "--configfile", "config/smoke.yaml", "--config", "gguf={models: [tiny-llama-s, tiny-mistral]}")
    assert done.status == 0, done.text
    assert done.plan["gguf_mixes"] == done.plan["train"] == 2
    assert done.plan["gguf_collect"] == 1
    assert not {"calibration", "bank", "search", "collect", "paper"} & set(done.plan)
    whole = plan("--configfile", "config/smoke.yaml")
    assert whole.plan["gguf_mixes"] == whole.plan["gguf_collect"] == 1
    assert "gguf_mixes" not in plan("--configfile", "config/paper.yaml").plan


def test_a_league_is_planned_run_by_run_and_without_the_study(plan: Plan) -> None:
    """One search per run, however many checkpoints; nothing of the study's own rows."""
    done = plan("league", "--configfile", "config/league.yaml")
    assert done.status == 0, done.text
    assert done.plan["league_run"] > 100
    assert done.plan["acceptance"] == 3
    assert done.plan["league_collect"] == 1
    assert not {"quantize", "evaluate", "search", "learn", "collect", "paper"} & set(done.plan)
    gaps = plan("optimum", "--configfile", "config/league.yaml").plan
    wanted = plan_of("league.yaml").study.optimum
    assert wanted is not None
    assert gaps["enumeration"] == len(wanted.models)
    assert gaps["optimum_run"] == len(wanted.models) * len(wanted.methods) >= 8
    assert not {"league_run", "quantize"} & set(gaps)
    assert not {"league_run", "enumeration"} & set(plan().plan)


@pytest.mark.parametrize(
    ("section", "made", "collects", "named"),
    [
        ("league", "league/tiny-llama-s/random_search/3.65/12/0.json", "league_collect", "3.65/12/0.json"),
        ("banks", "metrics/tiny-llama-s.draw1/knapsack-b3.65-s0.json", "banks_collect", "knapsack,1,1="),
    ],
)
def test_a_partial_section_takes_what_is_there_and_starts_nothing(
    section: str, made: str, collects: str, named: str, bare: Path
) -> None:
    file = bare / "results" / "smoke" / made
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    partial = ("--config", f"{section}={{partial: true}}")
    some = snakemake(bare, "-n", "-p", section, "--configfile", "config/smoke.yaml", *partial)
    assert some.status == 0, some.text
    assert some.plan == {collects: 1, section: 1, "settings": 1}
    assert named in some.text
    assert "ramp/3.65" not in some.text


def test_a_partial_ablation_of_the_folds_takes_what_is_there(bare: Path) -> None:
    made = bare / "results" / "smoke" / "fold_ablation" / "tiny-llama-s" / "sq50" / "rtn-b3.json"
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    some = snakemake(
        bare, "-n", "-p", "fold_ablation",
        "--configfile", "config/smoke.yaml", "--config", "fold_ablation={partial: true}",
    )  # fmt: skip
    assert some.status == 0, some.text
    assert some.plan == {"fold_collect": 1, "fold_ablation": 1, "settings": 1}
    assert str(made.relative_to(bare)) in some.text
    assert "none/rtn" not in some.text


def test_the_folds_are_ablated_without_the_study(plan: Plan) -> None:
    """Rows of two quantizers on six folds at two widths on four models; of the study no more than texts and models."""
    done = plan("fold_ablation", "--configfile", "config/league.yaml")
    assert done.status == 0, done.text
    assert done.plan["fold_run"] == 4 * (6 * 2 * 2 + 7)
    assert (done.plan["fold_reference"], done.plan["fold_collect"]) == (4, 1)
    # a fold of one width is searched with the shared one, which three models have no row on
    assert done.plan["fold"] == 4 * 8 + 3
    assert not {"quantize", "evaluate", "bank", "search", "league_run", "collect", "paper"} & set(done.plan)


def test_rows_over_banks_are_planned_on_the_studys_own_files(plan: Plan) -> None:
    """Five draws of one model: one checkpoint and one reference for all, the rest once for each; no paper."""
    done = plan("banks", "--configfile", "config/banks.yaml")
    assert done.status == 0, done.text
    draws, budgets, seeds = 5, 3, 3
    once = {"model": 1, "texts": 1, "banks_collect": 1, "settings": 1}
    assert {name: done.plan.get(name) for name in once} == once
    for name in ("calibration", "bank", "sensitivity"):
        assert done.plan[name] == draws, name
    assert done.plan["fold"] == 2 * draws, "one for mixed rows, one for the uniform row's width"
    assert done.plan["learn"] == 2 * draws * budgets * seeds, "RAMP, role and depth"
    assert done.plan["search"] == draws * budgets * (1 + seeds), "the knapsack, evolution from it"
    assert done.plan["quantize_shared"] == (draws - 1) * budgets
    assert done.plan["evaluate"] == done.plan["quantize"] + done.plan["quantize_shared"]
    assert not {"collect", "paper", "league_run", "transfer"} & set(done.plan)
    full = plan("--config", "depth=full")
    assert "draw1" not in full.text, "no study has banks unless its configuration says so"


def test_a_configfile_with_a_study_replaces_the_default(plan: Plan) -> None:
    """Merged, the smoke study would fetch the tasks of both."""
    done = plan("--configfile", "config/smoke.yaml")
    assert "smollm2" not in done.text
    assert "hellaswag" not in done.text


def test_it_plans_from_another_working_directory(plan: Plan, untouched: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = plan("--configfile", "config/smoke.yaml")
    smoke = str(untouched / "config" / "smoke.yaml")
    for snakefile, default in (("Snakefile", "all"), ("workflow/Snakefile", "study")):
        there = snakemake(tmp_path, "-s", str(untouched / snakefile), "-d", str(elsewhere), "-n", "--configfile", smoke)
        assert there.status == 0, there.text
        assert there.plan == {default if rule == "all" else rule: count for rule, count in here.plan.items()}


FAULTS = {  # every key of one configuration is at fault
    "modles=[rtn]": "unknown key 'modles' at top level (did you mean",
    "methods=[rtn,gtpq]": "methods: unknown method 'gtpq' (did you mean 'gptq'?)",
    "source=smolm2-135m": "source: unknown model 'smolm2-135m' (did you mean 'smollm2-135m'?)",
    "budgets=[2.5]": "budgets[0]: 2.5 bits is below the cheapest width of the menu, 3",
    "depth=fast": "depth: 'fast' is not known (known: exhaustive, full, quick, wide)",
    "results=../x": "results: '../x' is not allowed",
    "external=[gptqmodel_gtpq]": "external: unknown method 'gptqmodel_gtpq' (did you mean 'gptqmodel_gptq'?)",
    "variants={v: {method: rampp}}": "variants.v.method: unknown method 'rampp' (did you mean 'ramp'?)",
}


def test_every_fault_is_told_in_one_run(plan: Plan) -> None:
    """A sentence each; tests/unit/test_config.py has the other faults."""
    done = plan("--config", *FAULTS)
    assert done.status != 0
    for sentence in FAULTS.values():
        assert sentence in done.text
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("params={ramp: {gama: 1}}", "parameters of method 'ramp': unknown key 'gama'"),
        ("registry=config/none.yaml", "no asset registry at"),
    ],
)
def test_a_fault_that_needs_files_ends_in_a_sentence(plan: Plan, argument: str, sentence: str) -> None:
    """Parameters are known once a method's file is loaded."""
    done = plan("--config", argument)
    assert done.status != 0
    assert sentence in done.text
    assert "Traceback" not in done.text


def test_a_broken_method_file_is_named(bare: Path) -> None:
    (bare / "baselines" / "mine.py").write_text("METHOD = 3\n")
    done = snakemake(bare, "-n", "--config", "methods=[rtn,gptq,awq,awq_gptq,knapsack,ramp,mine]")
    assert done.status != 0
    assert "mine.py: METHOD is a int" in done.text
    assert "Traceback" not in done.text


def test_a_broken_method_file_stops_nobody_else(bare: Path) -> None:
    (bare / "baselines" / "mine.py").write_text("def (\n")
    done = snakemake(bare, "-n", "--configfile", "config/smoke.yaml")
    assert done.status == 0, done.text
    [line] = [line for line in done.text.splitlines() if line.startswith("warning:")]
    assert "mine.py does not load: SyntaxError" in line


@pytest.fixture(scope="module")
def files_of_smoke(untouched: Path) -> list[str]:
    """The files that a smoke study makes, as Snakemake lists them."""
    listed = snakemake(untouched, "--summary", "--configfile", "config/smoke.yaml").text.splitlines()
    files = [line.split("\t")[0] for line in listed if line.startswith("results/smoke/")]
    assert len(files) > 150
    return files


@pytest.fixture
def finished(bare: Path, files_of_smoke: list[str]) -> Path:
    """Every file of a finished smoke study, empty: what a dry run looks at."""
    files = [bare / file for file in files_of_smoke]
    for file in sorted(files, reverse=True):  # a file in a folder that is an output, too, comes first
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text("{}")
    for path in (bare / "results" / "smoke").rglob("*"):
        os.utime(path, (FINISHED, FINISHED))
    return bare / "results" / "smoke"


FINISHED = 2_000_000_000


def test_what_was_deleted_is_made_again_by_the_same_command(bare: Path, finished: Path) -> None:
    """Packed rows, GGUF files, tables, figures and records: the rule that makes them, and what follows from it."""
    smoke, plan = finished, ("-n", "--configfile", "config/smoke.yaml")
    assert snakemake(bare, *plan).plan == {}
    deleted = {
        "halo/tiny-llama-s/ramp-b3.65-s0.gguf": "halo_export",
        "halo/tiny-llama-s/float-b16-s0.gguf": "halo_float",
        "quantized/tiny-mistral/awq_gptq-b4-s0/model.safetensors": "quantize",
        "paper/tables/index.json": "tables",
        "paper/figures/pareto.pdf": "figure",
        "records/records.csv": "collect",
        "records/league.csv": "league_collect",
    }
    for file in deleted:
        (smoke / file).unlink()
    planned = snakemake(bare, *plan).plan
    assert planned.keys() >= set(deleted.values())
    assert planned["quantize"] == planned["halo_export"] == planned["halo_float"] == 1
    assert not {"train", "bank", "search", "learn", "league_run", "reference"} & planned.keys()


def test_one_deleted_table_is_made_again(bare: Path, finished: Path) -> None:
    """The folder and its index are still there: the index says what is missing."""
    smoke, plan = finished, ("-n", "--configfile", "config/smoke.yaml")
    tables = smoke / "paper" / "tables"
    for name in ("cost.tex", "cost.typ", "cost.md", "index.json"):
        (tables / name).write_text('{"cost": {}}')

    def planned() -> dict[str, int]:
        for path in (*tables.iterdir(), tables):  # what is there is as old as all else
            os.utime(path, (FINISHED, FINISHED))
        return snakemake(bare, *plan).plan

    assert planned() == {}
    (tables / "cost.md").unlink()
    assert planned().keys() >= {"tables", "paper"}


def test_a_new_method_needs_its_file_and_its_name_alone(plan: Plan, bare: Path) -> None:
    """As the README says: copy the template, add the name, run."""
    before = plan().plan
    shutil.copy(bare / "baselines" / "rtn.py", bare / "baselines" / "mine.py")
    methods = "methods=[rtn,gptq,awq,awq_gptq,knapsack,random_search,ramp_paper,ramp,mine]"
    after = snakemake(bare, "-n", "--config", methods)
    assert after.status == 0, after.text
    added = {rule: after.plan[rule] - before[rule] for rule in after.plan if after.plan[rule] != before[rule]}
    assert added == {"quantize": 2, "evaluate": 2}


def test_the_paper_study_stops_before_its_first_job_without_a_gpu(bare: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    before = set(bare.glob("results/**/*.json"))
    done = snakemake(bare, "--cores", "1", "--configfile", "config/paper.yaml")
    assert done.status != 0
    assert "asks for device 'cuda' and this machine has no usable GPU" in done.text
    assert "Traceback" not in done.text
    assert set(bare.glob("results/**/*.json")) == before


def test_published_records_are_drawn_from_in_a_bare_checkout(bare: Path) -> None:
    """Whatever the published records hold: figures, tables and paper plan nothing that touches a model."""
    published = bare / "results" / "published"
    published.mkdir(parents=True, exist_ok=True)
    for name in ("records", "windows", "items", "allocations", "episodes", "activations", "transfer", "halo"):
        (published / f"{name}.csv").write_text("x\n")
    (published / "claims.json").write_text("[]")
    figures, tables, paper, whole = (
        snakemake(bare, target, "-n", "--config", "records=published").plan
        for target in ("figures", "tables", "paper", "all")
    )
    assert figures.keys() == {"figure", "figures"}
    assert tables.keys() | paper.keys() <= whole.keys()
    assert not {*MODEL_RULES, "collect"} & whole.keys()


def test_leaks_are_planned_on_request_and_share_what_their_text_does_not_change(plan: Plan) -> None:
    """Five mixed rows and three uniform ones of three calibrations; and nothing of it in the study."""
    done = plan("leakage")
    assert done.status == 0, done.text
    counts = {"calibration": 3, "bank": 3, "sensitivity": 5, "search": 5, "quantize": 8, "evaluate": 8}
    assert {rule: done.plan[rule] for rule in counts} == counts
    assert done.plan["scored_text"] == done.plan["leakage_collect"] == 1
    assert not {"collect", "learn"} & set(done.plan)
    assert "scored_text" not in plan().plan
    assert ".leak-" not in plan().text


JOBS = """
import json
from pathlib import Path
from ramp.plan.dry_run import planned_jobs
banks = {"models": ["smollm2-135m"], "draws": [0, 1], "methods": ["knapsack"], "budgets": [3.65]}
config = {"leakage": {"on_request": False}, "banks": banks}
jobs = planned_jobs(Path("Snakefile"), [Path("config/config.yaml")], config)
print(json.dumps([[job.rule, job.wildcards.get("model", ""), job.inputs, job.outputs] for job in jobs]))
"""


def test_no_other_table_stands_on_scored_text(bare: Path) -> None:
    """Job by job: scored windows go to leaking models alone, and no leaking model's file to another table's row."""
    (bare / "list_jobs.py").write_text(JOBS)
    done = module(bare, "list_jobs")
    assert done.status == 0, done.text
    jobs = json.loads(done.text.splitlines()[-1])
    readers = {(rule, model) for rule, model, inputs, _ in jobs for file in inputs if "/leakage/" in file}
    assert {rule for rule, _ in readers} == {"calibration", "fold", "bank", "sensitivity", "search", "quantize"}
    assert all(".leak-" in model and "test" in model for _, model in readers)
    takers = {rule for rule, model, inputs, _ in jobs if ".leak-" not in model and any(".leak-" in f for f in inputs)}
    assert takers == {"leakage_collect"}
    tables = {file for rule, _, _, outputs in jobs for file in outputs if rule == "leakage_collect"}
    assert {Path(file).name for file in tables} == {"leakage.csv", "leakage_windows.csv"}
