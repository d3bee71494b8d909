"""Scripts that the rules rely on: the checks before and after a run, the GPU lease."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.settings.enums import Quietness

from ramp.core import cli
from ramp.study.preflight import PreflightError, preflight
from tests.plans import plan_of
from tests.sealed import write_sealed
from workflow.scripts.check_results import check
from workflow.scripts.check_results import main as check_study
from workflow.scripts.failures import failed_jobs
from workflow.scripts.made_files import asked_files, in_words, made_lines

REPO = Path(__file__).resolve().parents[2]


# --- before the first job ------------------------------------------------------------------------------------


def paper_study() -> tuple[Any, Any]:
    plan = plan_of("paper.yaml")
    return plan.study, plan.registry


def test_the_paper_study_refuses_to_start_without_a_gpu() -> None:
    study, registry = paper_study()
    with pytest.raises(PreflightError, match="'cuda'"):
        preflight(study, registry, jobs_run_here=True, gpu=lambda: False, refusal=lambda *_: None)
    preflight(study, registry, jobs_run_here=True, gpu=lambda: True, refusal=lambda *_: None)
    preflight(study, registry, jobs_run_here=False, gpu=lambda: False, refusal=lambda *_: None)


def test_access_to_every_model_is_asked_for_and_what_lacks_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for one of several gated models: the run does not start, and the sentence says how it would."""
    study, registry = paper_study()
    monkeypatch.setattr(type(registry), "is_local", lambda *_: False)

    def gated(*words: str) -> Any:
        return lambda source, _: f"{source.repo} is gated" if any(word in source.repo for word in words) else None

    def start(*words: str, config: Any = study) -> None:
        preflight(config, registry, jobs_run_here=True, gpu=lambda: True, refusal=gated(*words))

    with pytest.raises(PreflightError, match="llama-2-7b: meta-llama/Llama-2-7b-hf is gated") as source:
        start("Llama-2-7b")
    assert "targets=" not in str(source.value)
    with pytest.raises(PreflightError, match="llama-3-8b: meta-llama") as targets:
        start("Llama-2-13b", "Llama-3")
    assert str(targets.value).endswith("'targets=[mistral-7b-v0.1]'")
    start("Llama-2-13b", "Llama-3", config=study.model_copy(update={"targets": ["mistral-7b-v0.1"]}))
    with pytest.raises(PreflightError, match="wikitext2: "):
        start("wikitext", config=study)


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
    key = {"study": "x", "model": "m", "method": "rtn", "grid": "affine", "stage": "final", "budget_bits": 4.0}
    key |= {"group_size": 128, "fold": "none", "seed": 0}
    sizes = {"bytes_file": 10, "bytes_linear": 5, "bytes_embedding": 3, "bytes_head": 0, "bytes_other": 2}
    write_sealed(row / "meta.json", key | sizes)
    windows = [{"window": 0, "tokens": 4, "nll": 8.0, "kl": 0.1}, {"window": 1, "tokens": 4, "nll": 4.0, "kl": 0.1}]
    text = {"windows": windows, "ppl": math.exp(12 / 8), "ppl_low": 3.0, "ppl_high": 6.0, "kl": 0.025}
    text |= {"kl_low": 0.0, "kl_high": 0.1, "length": 5}
    metrics = {"key": key, "texts": {"heldout": text}, "sizes": sizes, "simulated": True, "note": "", "versions": {}}
    (root / "metrics" / "m").mkdir(parents=True)
    write_sealed(root / "metrics" / "m" / "rtn-b4-s0.json", metrics)
    (root / "halo" / "m").mkdir(parents=True)
    one = {"file": "x.gguf", "check": "loads", "value": 1, "limit": 1, "ok": True}
    write_sealed(root / "halo" / "m" / "x.check.json", [one])
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
    if path.suffix == ".json":  # a wrong number with the right checksum
        write_sealed(path, json.loads(path.read_text()))
    assert [one["check"] for one in check(tmp_path) if not one["ok"]] == [failing]


def test_the_check_of_a_study_fails_by_name_and_leaves_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed limit in llama.cpp, with which a study goes on, fails here."""
    record = finished(tmp_path) / "halo" / "m" / "x.check.json"
    line = ["check_results", "--results", str(tmp_path), "--out", str(tmp_path / "check.json")]
    monkeypatch.setattr("sys.argv", line)
    assert check_study() == 0
    (tmp_path / "check.json").unlink()
    write_sealed(record, json.loads(record.read_text().replace("true", "false")))
    assert check_study() == 1
    assert not (tmp_path / "check.json").exists()
    assert "x.gguf: halo: loads: 1 against 1" in capsys.readouterr().err


def test_a_damaged_file_of_a_study_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished(tmp_path) / "metrics" / "m" / "rtn-b4-s0.json").write_text("{")
    options = ["--results", str(tmp_path), "--out", str(tmp_path / "check.json")]
    assert cli.run(check_study, options) == 2
    assert "evaluate the row again" in capsys.readouterr().err


# --- the GPU lease -------------------------------------------------------------------------------------------

LEASE = REPO / "workflow" / "scripts" / "gpu_lease"


def lease(tmp_path: Path, gpus: str | None, command: str, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    return subprocess.Popen(
        [str(LEASE), "bash", "-c", command, *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


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


def test_a_command_that_names_its_gpu_sees_all_and_waits_for_that_one(tmp_path: Path) -> None:
    """``cuda:1`` counts what the command sees: with that GPU alone in sight it would name none."""
    named = "echo $CUDA_VISIBLE_DEVICES # --device cuda:1"
    first = lease(tmp_path, "4,7", "echo here; exec sleep 60", "--device", "cuda:1")
    assert first.stdout is not None
    assert first.stdout.readline().strip() == "here"
    second = lease(tmp_path, "4,7", named, "--device", "cuda:1")
    with pytest.raises(subprocess.TimeoutExpired):
        second.communicate(timeout=0.5)
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=20)
    assert out.strip() == "4,7"
    none = lease(tmp_path, "4,7", named, "--device", "cuda:2")
    _, said = none.communicate(timeout=20)
    assert (none.returncode, "2 GPUs, counted from 0" in said) == (2, True)


@pytest.mark.parametrize("gpus", ["", "3"])
def test_one_gpu_or_none_is_left_as_it_is(tmp_path: Path, gpus: str) -> None:
    out, _ = lease(tmp_path, gpus, "echo [$CUDA_VISIBLE_DEVICES]; exit 5").communicate(timeout=20)
    assert out.strip() == f"[{gpus}]"
    assert not list(tmp_path.iterdir())


def test_the_exit_status_is_the_commands_own(tmp_path: Path) -> None:
    done = lease(tmp_path, "0,1", "exit 5")
    done.communicate(timeout=20)
    assert done.returncode == 5


def test_locks_lie_in_a_private_folder_and_nothing_is_emptied(tmp_path: Path) -> None:
    lease(tmp_path, "0,1", "exit 0").communicate(timeout=20)
    folder = tmp_path / f"ramp-gpu-leases-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "0").write_text("kept")
    lease(tmp_path, "0,1", "exit 0").communicate(timeout=20)
    assert (folder / "0").read_text() == "kept"


@pytest.mark.parametrize("planted", ["lock", "folder", "file"])
def test_a_planted_link_is_not_followed(tmp_path: Path, planted: str) -> None:
    folder, victim = tmp_path / f"ramp-gpu-leases-{os.getuid()}", tmp_path / "victim"
    victim.write_text("precious")
    if planted == "lock":
        folder.mkdir(mode=0o700)
        (folder / "0").symlink_to(victim)
    elif planted == "folder":
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    else:
        folder.write_text("")
    done = lease(tmp_path, "0,1", "echo ran")
    out, said = done.communicate(timeout=20)
    assert (done.returncode, out) == (2, "")
    assert "delete it" in said
    assert victim.read_text() == "precious"


def test_what_a_run_made_is_told_by_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule without files of its own stands for what it asks for; what is not there is counted alone."""
    monkeypatch.chdir(tmp_path)
    tables = [f"R/records/{name}.csv" for name in "abcde"]
    league = Job(Rule("league"), [], [*tables, "R/config.json"])
    figures = [Job(Rule("figure"), [f"R/{name}.pdf"], ["code.py"]) for name in "ba"]
    assert list(made_lines(asked_files([league, *figures]))) == []
    for file in (*tables[:4], "R/config.json", "R/a.pdf"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert list(made_lines(asked_files([league, *figures]))) == [
        "figure: 1 of 2 files: R/a.pdf",
        "league: 5 of 6 files: R/records/ (4 files), R/config.json",
    ]
    assert in_words([f"R/{name}/x" for name in range(11)]).endswith("R/7/x, and 3 more")


def test_reasons_of_jobs_are_not_on_the_default_screen() -> None:
    profile = yaml.safe_load((REPO / "profiles" / "default" / "config.yaml").read_text())
    assert Quietness.parse_choices_set(profile["quiet"]) == {Quietness.REASON}


@dataclass
class Rule:
    """As Snakemake's."""

    name: str


@dataclass
class Job:
    """As Snakemake's."""

    rule: Rule
    output: list[str]
    input: list[str]


def test_failed_jobs_are_told_with_their_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.log").write_text("12:00 begins\nerror: no room on the disk: free 3 GB\n\n")
    log = "x\nError in rule bank:\n    jobid: 1\n    log: a.log (check log file(s) for error details)\n    shell:\n"
    again = "Error in rule bank:\n    log: a.log (check log file(s) for error details)\n"
    Path("s.log").write_text(f"{log}{again}Error in rule figure:\n    jobid: 2\n    log: b.log\n")
    bank, figure = failed_jobs(Path("s.log"))
    assert bank == "bank: error: no room on the disk: free 3 GB (a.log)"
    assert figure == "figure: it left no message (b.log)"
    Path("s.log").write_text("nothing failed\n")
    assert failed_jobs(Path("s.log")) == []
