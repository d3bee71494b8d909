"""What the rules stand on: sources of a stage, rows of a study, the checks before and after a run, the GPU lease."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ramp.methods import discover, load_method
from ramp.registry import load_registry
from ramp.sources import closure
from ramp.validation import read, validate
from workflow.scripts.check_results import check
from workflow.scripts.plan import Plan, PlanError, Row, bits, used_methods
from workflow.scripts.preflight import PreflightError, preflight

REPO = Path(__file__).resolve().parents[2]


# --- sources -------------------------------------------------------------------------------------------------


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_closure_follows_every_kind_of_import(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "ramp/__init__.py": "",
            "ramp/stage.py": "import ramp.plain\nfrom ramp import member\ndef f():\n    from ramp.inside import g\n",
            "ramp/plain.py": "from .relative import x\n",
            "ramp/relative.py": "",
            "ramp/member.py": "from ramp.package.leaf import y\n",
            "ramp/inside.py": "import ramp.stage\n",  # a circle ends
            "ramp/package/__init__.py": "from . import sibling\n",
            "ramp/package/leaf.py": "",
            "ramp/package/sibling.py": "",
            "ramp/hints.py": "",
            "ramp/unused.py": "",
            "baselines/mine.py": "if TYPE_CHECKING:\n    import ramp.hints\nimport ramp.plain\n",
        },
    )
    stage = [
        "__init__",
        "inside",
        "member",
        "package/__init__",
        "package/leaf",
        "package/sibling",
        "plain",
        "relative",
        "stage",
    ]
    assert closure(root, "ramp/stage.py") == [f"ramp/{name}.py" for name in stage]
    assert closure(root, "baselines/mine.py") == [
        "baselines/mine.py",
        "ramp/__init__.py",
        "ramp/plain.py",
        "ramp/relative.py",
    ]


def test_closure_of_a_missing_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ramp/gone\.py"):
        closure(tmp_path, "ramp/gone.py")


def test_the_searcher_of_ramp_stands_on_sac_and_that_of_the_knapsack_does_not() -> None:
    assert "ramp/sac.py" in closure(REPO, "ramp/search.py", "baselines/ramp.py")
    assert "ramp/sac.py" not in closure(REPO, "ramp/search.py", "baselines/knapsack.py")
    for stage in ("calibration", "folding", "bank", "sensitivity", "evaluation"):
        assert "ramp/sac.py" not in closure(REPO, f"ramp/{stage}.py")


def test_no_stage_stands_on_the_configuration() -> None:
    """Else a new key would rerun the world."""
    for stage in sorted((REPO / "ramp").glob("*.py")):
        if stage.stem not in ("config", "validation"):
            assert not {"ramp/config.py", "ramp/validation.py"} & set(closure(REPO, f"ramp/{stage.name}")), stage


def test_closure_is_what_python_really_imports() -> None:
    """Against the interpreter: every project module that is loaded by importing a stage is in its closure."""
    listed = "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'ramp'), sep='\\n')"
    code = f"import sys, ramp.search; {listed}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {str(Path(line).relative_to(REPO)) for line in done.stdout.split()}
    assert len(loaded) > 3
    assert loaded <= set(closure(REPO, "ramp/search.py"))


# --- rows ----------------------------------------------------------------------------------------------------


def plan_of(file: str, **change: Any) -> Plan:
    found = discover(REPO / "baselines")
    registry = load_registry(REPO / "config" / "assets.yaml")
    study = validate({**read(REPO / "config" / file), **change}, methods=found, models=registry.of_type("model"))
    return Plan(study, {name: load_method(found[name]) for name in used_methods(study)}, registry)


def test_rows_of_the_embedded_study_are_those_that_the_readme_shows() -> None:
    plan = plan_of("config.yaml")
    names = {row.short for row in plan.source_rows}
    uniform = {f"{method}-b{width}" for method in ("rtn", "gptq", "awq") for width in (3, 4)}
    mixed = {f"{method}-b{budget}" for method in ("knapsack", "ramp_paper", "ramp") for budget in ("3.65", "4")}
    assert {"float-b16", "released-b16"} | uniform | mixed <= names
    assert {row.seed for row in plan.rows} == {0}
    assert {row.method for row in plan.target_rows} >= {"float", "knapsack", "ramp_transfer"}
    assert {row.short for row in plan.task_rows} == {"float-b16", "gptq-b4", "awq-b4", "ramp-b3.65"}


def test_full_depth_has_all_seeds_where_chance_plays_a_part() -> None:
    plan = plan_of("config.yaml", depth="full")
    seeds = {method: {row.seed for row in plan.source_rows if row.method == method} for method in plan.methods}
    assert seeds["ramp"] == {0, 1, 2}
    assert seeds["knapsack"] == seeds["gptq"] == {0}
    assert plan.task_rows == plan.source_rows


def test_packages_have_rows_in_full_depth_at_the_widths_that_they_can_give() -> None:
    quick, full = (
        plan_of("config.yaml", depth=depth, external=["gptqmodel_gptq", "gptqmodel_awq"]) for depth in ("quick", "full")
    )
    assert not [row for row in quick.rows if quick.is_package(row.name)]
    rows = [row for row in full.rows if full.is_package(row.name)]
    assert {row.short for row in rows} == {"gptqmodel_gptq-b3", "gptqmodel_gptq-b4", "gptqmodel_awq-b4"}
    assert {(row.model, row.seed) for row in rows} == {("smollm2-135m", 0)}
    assert quick.external_rows == rows  # what `baselines_external` makes at any depth
    assert list(full.environments) == ["gptqmodel"]
    assert full.fold_of("gptqmodel_awq") == "none"
    assert full.allocation_files("R", "smollm2-135m", "gptqmodel_awq-b4-s0") == []


def test_a_package_may_stand_among_the_methods_and_a_method_not_among_the_packages() -> None:
    methods = [*read(REPO / "config" / "smoke.yaml")["methods"], "gptqmodel_awq"]
    plan = plan_of("smoke.yaml", methods=methods)
    assert "gptqmodel_awq-b4" in {row.short for row in plan.source_rows}
    with pytest.raises(PlanError, match="'gptq' goes through no package"):
        plan_of("smoke.yaml", external=["gptq"])


def test_only_released_files_have_a_row_of_their_own() -> None:
    assert "released" in {row.method for row in plan_of("config.yaml").source_rows}
    assert "released" not in {row.method for row in plan_of("smoke.yaml").rows}


def test_an_unknown_task_row_is_named() -> None:
    values = read(REPO / "config" / "smoke.yaml")
    values["depths"]["quick"]["task_rows"] = ["ramp-b3.7"]
    with pytest.raises(PlanError, match=r"task_rows.*'ramp-b3\.7'.*ramp-b3\.65"):
        _ = plan_of("smoke.yaml", depths=values["depths"]).task_rows


def test_the_allocation_behind_a_row() -> None:
    plan = plan_of("smoke.yaml")
    file = "R/allocations/tiny-llama-s/ramp/3.65/0.json"
    assert plan.allocation_files("R", "tiny-llama-s", "ramp-b3.65-s0") == [file]
    assert plan.allocation_files("R", "tiny-llama-s", "ramp-b3.65-s0-ggml") == [file]
    assert plan.allocation_files("R", "tiny-llama-s", "awq_gptq-b4-s0") == []
    with pytest.raises(PlanError, match="is no row"):
        plan.allocation_files("R", "tiny-llama-s", "ramp")


def test_names_of_rows() -> None:
    assert [bits(value) for value in (4.0, 3.65, 3)] == ["4", "3.65", "3"]
    assert Row("m", "ramp", "3.65", 1).name == "ramp-b3.65-s1"


# --- before the first job ------------------------------------------------------------------------------------


def paper_study() -> tuple[Any, Any]:
    plan = plan_of("paper.yaml")
    return plan.study, plan.registry


def test_the_paper_study_refuses_to_start_without_a_gpu() -> None:
    study, registry = paper_study()
    with pytest.raises(PreflightError, match="device 'cuda' and this machine has no usable GPU"):
        preflight(study, registry, jobs_run_here=True, gpu=lambda: False, refusal=lambda *_: None)
    preflight(study, registry, jobs_run_here=True, gpu=lambda: True, refusal=lambda *_: None)
    preflight(study, registry, jobs_run_here=False, gpu=lambda: False, refusal=lambda *_: None)


def test_a_gated_source_stops_the_run_and_a_gated_target_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    study, registry = paper_study()

    def gated(word: str) -> Any:
        return lambda repo, _: "is gated: accept its licence" if word in repo else None

    with pytest.raises(PreflightError, match=r"source model 'llama-2-7b' cannot be fetched: .*gated"):
        preflight(study, registry, jobs_run_here=True, gpu=lambda: True, refusal=gated("Llama-2-7b"))
    preflight(study, registry, jobs_run_here=True, gpu=lambda: True, refusal=gated("Llama-2-13b"))
    assert "rows of 'llama-2-13b' will be missing" in capsys.readouterr().err


def test_the_embedded_study_asks_nobody() -> None:
    plan = plan_of("config.yaml")

    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    preflight(plan.study, plan.registry, jobs_run_here=True, gpu=lambda: False, refusal=asked)


# --- after the last job --------------------------------------------------------------------------------------


def finished(root: Path) -> Path:
    row = root / "quantized" / "m" / "rtn-b4-s0"
    row.mkdir(parents=True)
    (row / "model.safetensors").write_bytes(b"0123456789")
    sizes = {"bytes_file": 10, "bytes_linear": 5, "bytes_embedding": 3, "bytes_head": 0, "bytes_other": 2}
    (row / "meta.json").write_text(json.dumps(sizes))
    windows = [{"window": 0, "tokens": 4, "nll": 8.0, "kl": 0.1}, {"window": 1, "tokens": 4, "nll": 4.0, "kl": 0.1}]
    text = {"windows": windows, "ppl": math.exp(12 / 8), "ppl_low": 3.0, "ppl_high": 6.0, "kl": 0.025}
    (root / "metrics" / "m").mkdir(parents=True)
    (root / "metrics" / "m" / "rtn-b4-s0.json").write_text(json.dumps({"texts": {"heldout": text}}))
    (root / "halo" / "m").mkdir(parents=True)
    one = {"file": "x.gguf", "check": "loads", "value": 1, "limit": 1, "ok": True}
    (root / "halo" / "m" / "x.check.json").write_text(json.dumps([one]))
    return root


def test_a_sound_study_passes(tmp_path: Path) -> None:
    found = check(finished(tmp_path))
    assert len(found) == 6
    assert all(one["ok"] for one in found)


@pytest.mark.parametrize(
    ("file", "old", "new", "failing"),
    [
        ("quantized/m/rtn-b4-s0/model.safetensors", "9", "99", "bytes_file is stat's"),
        ("quantized/m/rtn-b4-s0/meta.json", '"bytes_other": 2', '"bytes_other": 3', "parts sum to bytes_file"),
        ("metrics/m/rtn-b4-s0.json", '"nll": 4.0', '"nll": 4.1', "heldout: perplexity of the windows"),
        ("metrics/m/rtn-b4-s0.json", '"ppl_low": 3.0', '"ppl_low": 5.0', "heldout: interval holds its estimate"),
        ("metrics/m/rtn-b4-s0.json", '"kl": 0.025', '"kl": -0.025', "heldout: KL is not negative"),
        ("halo/m/x.check.json", "true", "false", "halo: loads"),
    ],
)
def test_every_check_can_fail(tmp_path: Path, file: str, old: str, new: str, failing: str) -> None:
    path = finished(tmp_path) / file
    path.write_text(path.read_text().replace(old, new))
    assert [one["check"] for one in check(tmp_path) if not one["ok"]] == [failing]


# --- the GPU lease -------------------------------------------------------------------------------------------

LEASE = REPO / "workflow" / "scripts" / "lease"


def lease(tmp_path: Path, gpus: str | None, command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    return subprocess.Popen(
        [str(LEASE), "bash", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_jobs_at_the_same_time_get_different_gpus(tmp_path: Path) -> None:
    """Two hold 4 and 7 until told to end; a third finds none; when one is killed, its GPU is free again."""
    holders = [lease(tmp_path, "4,7", "echo $CUDA_VISIBLE_DEVICES; exec sleep 60") for _ in range(2)]
    try:
        held = {holder.stdout.readline().strip() for holder in holders if holder.stdout}
        assert held == {"4", "7"}
        third = lease(tmp_path, "4,7", "echo $CUDA_VISIBLE_DEVICES")
        _, said = third.communicate(timeout=20)
        assert third.returncode == 2
        assert "all 2 GPUs are taken" in said
        holders[0].kill()
        holders[0].wait()
        again = lease(tmp_path, "4,7", "echo $CUDA_VISIBLE_DEVICES")
        out, _ = again.communicate(timeout=20)
        assert out.strip() in held
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


@pytest.mark.parametrize("gpus", ["", "3"])
def test_one_gpu_or_none_is_left_as_it_is(tmp_path: Path, gpus: str) -> None:
    out, _ = lease(tmp_path, gpus, "echo [$CUDA_VISIBLE_DEVICES]; exit 5").communicate(timeout=20)
    assert out.strip() == f"[{gpus}]"
    assert not list(tmp_path.iterdir())


def test_the_exit_status_is_the_commands_own(tmp_path: Path) -> None:
    done = lease(tmp_path, "0,1", "exit 5")
    done.communicate(timeout=20)
    assert done.returncode == 5
