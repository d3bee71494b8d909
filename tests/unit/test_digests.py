"""Digests of what a study left behind: equal for equal content, whatever the times, and another for one other byte."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import same_results
from paper.publish import MANIFEST, publish, publish_digests
from ramp.core.arithmetic import KINDS
from ramp.core.atomic_files import sha256_file, write_json
from ramp.core.errors import RampError
from ramp.core.provenance import FLAGS, Machine
from ramp.records.digests import main, study_digests
from ramp.records.intermediate_digests import STAGES, content_digest, stage_files
from ramp.records.study_digests import read_digests
from tests.refusals import refused
from tests.rows import row_key
from tests.sealed import read_json
from tests.synthetic_records import write_study

ROOT = Path(__file__).resolve().parents[2]


def finished(folder: Path, wall_s: float = 1.0, version: str = "5.0", bank: int = 7, dtype: str = "float32") -> Path:
    """A results folder with a file of most kinds; the arguments are what two runs may differ in."""
    write_json(folder / "config.json", {"study": "tiny"})
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "search.jsonl").write_text('{"text": "a"}\n')
    (folder / "bank" / "m" / "awq-gptq").mkdir(parents=True)
    tensors = {"codes": torch.tensor([bank, 2], dtype=torch.uint8), "scales": torch.ones(2)}
    about = {"ramp": json.dumps({"config": {"transformers_version": version}, "widths": [3]})}
    save_file(tensors, folder / "bank" / "m" / "awq-gptq" / "bank.safetensors", metadata=about)
    write_json(folder / "bank" / "m" / "awq-gptq" / "bank.json", {"widths": [3], "sha256": version})
    write_json(folder / "allocations" / "m" / "ramp" / "4" / "0.json", {"bits": {"q": 3}, "search_wall_s": wall_s})
    search = folder / "search" / "m" / "ramp" / "4" / "0"
    search.mkdir(parents=True)
    (search / "episodes.jsonl").write_text('{"episode": 0}\n')
    (search / "summary.txt").write_text(f"cost {wall_s} s\n")
    row = {"key": row_key(), "commit": version, "hardware": "a processor", "dtype": dtype, "wall_s": wall_s}
    write_json(folder / "metrics" / "m" / "rtn-b4-s0.json", {**row, "versions": {"torch": version}})
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {name: digest for stage in study_digests(folder).stages for name, digest in stage.files.items()}


def test_times_versions_and_commits_do_not_count(tmp_path: Path) -> None:
    first, again = finished(tmp_path / "a"), finished(tmp_path / "b", wall_s=2.0, version="6.0")
    assert sha256_file(first / "metrics/m/rtn-b4-s0.json") != sha256_file(again / "metrics/m/rtn-b4-s0.json")
    assert digests(first) == digests(again)
    assert len(digests(first)) == 6
    assert not any("summary" in name for name in digests(first))


def test_scores_of_a_text_that_another_machine_lacks_do_not_count(tmp_path: Path) -> None:
    """WikiText-2 is scored where it lies beside the clone; the heldout scores beside it still count."""
    heldout = {"kl": 0.5, "windows": [1.0]}

    def scored(name: str, texts: dict[str, object], **guard: object) -> dict[str, str]:
        folder = finished(tmp_path / name)
        write_json(folder / "metrics" / "m" / "rtn-b4-s0.json", {"key": row_key(), "texts": texts})
        counts = {"roles": {"heldout": 1, **guard}, "paragraphs_dropped": len(guard)}
        write_json(folder / "texts" / "guard.json", counts)
        return digests(folder)

    alone, beside = scored("a", {"heldout": heldout}), scored("b", {"heldout": heldout, "wikitext2": {}}, wikitext2=2)
    assert alone == beside
    other = scored("c", {"heldout": {**heldout, "kl": 0.6}, "wikitext2": {}})
    assert {name for name in alone if alone[name] != other[name]} == {"metrics/m/rtn-b4-s0.json"}


def test_one_byte_of_a_bank_changes_its_digest_and_no_other(tmp_path: Path) -> None:
    first, other = digests(finished(tmp_path / "a")), digests(finished(tmp_path / "b", bank=6))
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {"bank/m/awq-gptq/bank.safetensors"}


def test_tensors_count_and_not_their_places_in_the_file(tmp_path: Path) -> None:
    """The same tensors in another order, written by hand, are the same content; another shape is not."""

    def write(name: str, *tensors: tuple[str, list[int], bytes]) -> str:
        header, place = {}, 0
        for tensor, shape, data in tensors:
            header[tensor] = {"dtype": "U8", "shape": shape, "data_offsets": [place, place + len(data)]}
            place += len(data)
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors)
        (tmp_path / name).write_bytes(content)
        return content_digest(tmp_path / name)

    a, b = ("a", [2], b"\1\2"), ("b", [3], b"\3\4\5")
    assert write("first.safetensors", a, b) == write("second.safetensors", b, a)
    assert write("third.safetensors", ("a", [1, 2], b"\1\2"), b) != write("first.safetensors", a, b)
    assert write("fourth.safetensors", ("a", [2], b"\3\4"), ("b", [3], b"\1\2\5")) != write("first.safetensors", a, b)


def test_stages_come_in_pipeline_order_without_partial_files(tmp_path: Path) -> None:
    folder = finished(tmp_path / "a")
    (folder / "bank" / "m" / "awq-gptq" / ".bank.json.7.partial").write_text("half")
    (folder / "logs").mkdir()
    (folder / "logs" / "bank.log").write_text("12:00 done")
    assert [stage for stage, _ in stage_files(folder)] == ["texts", "bank", "search", "allocations", "metrics"]
    assert not any("partial" in path.name for _, files in stage_files(folder) for path in files)


def test_another_study_below_a_stages_name_is_not_this_one(tmp_path: Path) -> None:
    """results/league is the league's own folder, and the folder of the default study's runs of a league."""
    folder = finished(tmp_path / "results")
    write_json(folder / "league" / "m" / "ramp" / "3.65" / "12" / "0.json", {"kl": 1})
    inner = finished(folder / "league")
    write_json(inner / "league" / "m" / "ramp" / "3.65" / "12" / "0.json", {"kl": 2})
    found = {stage: [str(path.relative_to(folder)) for path in files] for stage, files in stage_files(folder)}
    assert found["league"] == ["league/m/ramp/3.65/12/0.json"]


def test_every_stage_that_a_rule_writes_is_digested() -> None:
    """A new folder of results is listed as a stage, or here as what is none."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    written = set(re.findall(r'^ +\w+=(?:[a-z]+\()?f?"(?:<results>|\{R\})/([a-z_]+)/', rules, re.M))
    no_stage = {"assets", "packages", "records", "external", "compared", "baseline_check"}
    assert len(written) > 10
    assert written - no_stage <= {stage.name for stage in STAGES}


def test_the_command_writes_one_study_with_its_machine(tmp_path: Path) -> None:
    results, out = finished(tmp_path / "a", dtype="bfloat16"), tmp_path / "digests.json"
    assert main([f"--results={results}", "--config-hash=abc", f"--out={out}"]) == 0
    [(study, found)] = read_digests(out).items()
    assert study == "tiny"
    assert (found.config_hash, found.dtype, found.hardware) == ("abc", ["bfloat16"], ["a processor"])
    assert found.machine == Machine.here()
    assert found.versions["torch"] == torch.__version__
    assert {"numpy", "scipy"} <= set(found.versions), "both bring an OpenBLAS of their own"
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for stage in found.stages for digest in stage.files.values())


def test_the_machine_says_what_limits_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    found = Machine.here()
    assert found.limits["MKL_CBWR"] == "AVX2"
    assert set(found.flags) <= set(FLAGS)
    assert found.instruction_set == torch.backends.cpu.get_cpu_capability()
    for word in (found.processor, found.instruction_set, "MKL_CBWR=AVX2"):
        assert word in str(found)


def test_the_machine_names_the_arithmetic_and_the_threads_of_its_pool() -> None:
    """Reproducible arithmetic leaves torch one thread, and shares the pieces of a product itself."""
    code = "from ramp.core import arithmetic; from ramp.core.provenance import Machine; arithmetic.enable(3); "
    code += "print(Machine.here().threads)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["3"]
    assert Machine.here().arithmetic in KINDS
    old = {name: value for name, value in vars(Machine.here()).items() if name != "arithmetic"}
    assert Machine(**old).arithmetic == "", "files older than the field still read"


def test_bad_input_is_refused(tmp_path: Path) -> None:
    folder = finished(tmp_path / "a")
    bank = folder / "bank" / "m" / "awq-gptq" / "bank.safetensors"
    whole = bank.read_bytes()
    empty = tmp_path / "empty"
    write_json(empty / "config.json", {"study": "tiny"})
    (tmp_path / "digests.json").write_text('{"tiny": {"stages": 3}}')

    def damaged(content: bytes) -> str:
        bank.write_bytes(content)
        return content_digest(bank)

    refused(
        RampError,
        {
            "ends inside tensor": lambda: damaged(whole[:-1]),
            "no safetensors file": lambda: damaged(whole[:9]),
            "no file of any stage": lambda: main([f"--results={empty}", f"--out={tmp_path / 'x.json'}"]),
            "no configuration": lambda: main([f"--results={tmp_path / 'gone'}", f"--out={tmp_path / 'x.json'}"]),
            "run python -m ramp digests again": lambda: read_digests(tmp_path / "digests.json"),
        },
    )


def test_same_results_compares_what_every_stage_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = finished(tmp_path / "a"), finished(tmp_path / "b", 2.0), finished(tmp_path / "c", bank=6)
    for folder in (first, again, other):
        write_json(folder / "records" / "claims.json", [])
    assert same_results.main([str(first), str(again)]) == 0
    assert same_results.main([str(first), str(other)]) == 1
    assert "DIFFERS  bank/m/awq-gptq/bank.safetensors" in capsys.readouterr().out


def test_publishing_keeps_the_digests_of_other_studies(tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    tiny = finished(tmp_path / "tiny")
    name = read_json(study / "config.json")["study"]
    entry = study_digests(tiny)
    write_json(study / "records" / "digests.json", {name: entry.model_dump(mode="json")})
    publish(study, out, "snakemake")
    assert set(read_digests(out / "digests.json")) == {name}
    refused(RampError, {"no digests.json": lambda: publish_digests(tiny, out)})
    assert main([f"--results={tiny}", f"--out={tiny / 'records' / 'digests.json'}"]) == 0
    assert publish_digests(tiny, out) == ["tiny"]
    publish(study, out, "snakemake")
    assert set(read_digests(out / "digests.json")) == {name, "tiny"}
    manifest = read_json(out / MANIFEST)
    assert manifest["machines"]["tiny"]["processor"] == entry.machine.processor
    assert manifest["files"]["digests.json"]["sha256"] == sha256_file(out / "digests.json")
