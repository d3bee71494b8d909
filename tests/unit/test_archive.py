"""Archives: the same bytes twice, RO-Crate as specified, every fault of a file found, hostile files refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramp.archive import __main__ as command
from ramp.archive.checksums import SUMS
from ramp.archive.container import Archive, ArchiveError, Limits, open_archive, unsafe_name, write_archive
from ramp.archive.contents import code_files, sources, study_files
from ramp.archive.crate import METADATA, read_citation
from ramp.archive.verify import main as verify
from ramp.core import cli
from ramp.core.atomic_files import sha256_file, write_json, write_text
from tests.refusals import refused
from tests.synthetic_records import write_study

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small source tree without git."""
    root = tmp_path_factory.mktemp("project")
    write_text(root / "ramp" / "__init__.py", '"""."""\n')
    write_text(root / "Snakefile", "rule all:\n    input: []\n")
    write_text(root / "results" / "published" / "records.csv", "a\n")
    write_text(root / "CITATION.cff", (REPO / "CITATION.cff").read_text())
    for name in ("ramp/__pycache__/a.pyc", ".venv/lib.py", "results/smoke/model.safetensors", "logs/a.log"):
        write_text(root / name, "no source")
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with records, manifests, a policy, a paper, weights and texts."""
    results = write_study(tmp_path_factory.mktemp("study"))
    row = results / "quantized" / "m" / "rtn-b4-s0"
    write_json(row / "meta.json", {})
    write_json(results / "allocations" / "m" / "ramp" / "3.65" / "0.json", {})
    write_text(results / "paper" / "paper.pdf", "%PDF")
    write_text(results / "paper" / "figures" / "a {b} é.png", "png")
    write_json(results / "league" / "m" / "ramp" / "3.65" / "12" / "0.json", {})
    write_json(results / "league" / "config.json", {})  # a study of its own in the folder of this one
    for name in ("policy.safetensors", "episodes.jsonl"):
        write_text(results / "search" / "m" / "ramp" / "3.65" / "0" / name, "x")
    for weights in (row / "model.safetensors", results / "models" / "m" / "model.safetensors",
                    results / "halo" / "m" / "ramp.gguf", results / "bank" / "m" / "b" / "bank.safetensors",
                    results / "texts" / "heldout.jsonl", results / ".state" / "a.json"):  # fmt: skip
        write_text(weights, "weights")
    return results


@pytest.fixture(scope="module")
def packed(study: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "archive.zip"
    command.archive(study, out, project, "2026-11-30")
    return out


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as source:
        return {info.filename: source.read(info) for info in source.infolist()}


def changed(file: Path, out: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with other members."""
    found = members(file)
    change(found)
    write_archive(out, found)
    return out


def test_an_archive_holds_study_and_code_without_weights(packed: Path) -> None:
    names = set(members(packed))
    assert {"results/records/records.csv", "results/paper/paper.pdf", "results/search/m/ramp/3.65/0/policy.safetensors",
            "results/quantized/m/rtn-b4-s0/meta.json", "results/allocations/m/ramp/3.65/0.json", "code/Snakefile",
            "results/league/m/ramp/3.65/12/0.json", "code/results/published/records.csv",
            METADATA, SUMS} <= names  # fmt: skip
    assert "results/league/config.json" not in names
    assert not [name for name in names if name.endswith((".gguf", ".pyc", "model.safetensors", "bank.safetensors"))]
    assert not [name for name in names if ".state" in name or "texts/" in name or ".venv" in name or "logs/" in name]


def test_one_study_gives_the_same_bytes_twice(study: Path, project: Path, packed: Path, tmp_path: Path) -> None:
    os.utime(study / "paper" / "paper.pdf", (1, 1))
    command.archive(study, tmp_path / "again.zip", project, "2026-11-30")
    assert sha256_file(tmp_path / "again.zip") == sha256_file(packed)


def test_the_project_is_what_git_tracks_and_nothing_of_it_is_lost_without_git() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git here")
    tracked = {name for name in done.stdout.splitlines() if (REPO / name).is_file()}
    packed = {name.removeprefix("code/") for name in code_files(REPO)}
    assert tracked <= packed
    assert all(name.startswith(("baselines/", "config/", "ramp/")) for name in packed - tracked)
    hidden = {name for name in tracked if Path(name).parts[0].startswith(".") and "/" in name}
    assert tracked <= set(sources(REPO)) | {name for name in hidden if not name.startswith((".ci/", ".github/"))}


def test_metadata_are_an_ro_crate(packed: Path) -> None:
    """The entities and properties that RO-Crate 1.1 requires."""
    found = members(packed)
    document = json.loads(found[METADATA])
    assert document["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(graph) == len(document["@graph"])
    descriptor, root = graph[METADATA], graph["./"]
    assert (descriptor["@type"], descriptor["about"]) == ("CreativeWork", {"@id": "./"})
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert root["datePublished"] == "2026-11-30"
    assert root["name"]
    assert root["description"]
    assert graph[root["license"]["@id"]]["name"] == "Apache-2.0"
    citation = read_citation(REPO / "CITATION.cff")
    assert [graph[each["@id"]]["name"] for each in root["author"]] == [each["name"] for each in citation["authors"]]
    assert graph["#suite"]["softwareVersion"] == citation["version"]
    assert "ComputationalWorkflow" in graph[root["mainEntity"]["@id"]]["@type"]
    parts = [part["@id"] for part in root["hasPart"]]
    assert len(parts) == len(found) - 2  # all but the metadata and the checksums
    for part in parts:
        entity = graph[part]
        assert "File" in entity["@type"]
        assert " " not in part
        assert "{" not in part
        content = found[entity["name"]]
        assert entity["contentSize"] == str(len(content))
        assert len(entity["sha256"]) == 64
    linked = [value["@id"] for entity in graph.values() for value in entity.values() if isinstance(value, dict)]
    assert all(name in graph or name.startswith("https://") for name in linked)


def test_sha256sum_checks_an_unpacked_archive(packed: Path, tmp_path: Path) -> None:
    assert cli.run(verify, [str(packed), "--extract", str(tmp_path / "out")]) == 0
    done = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=tmp_path / "out", check=False)
    assert done.returncode == 0
    assert cli.run(verify, [str(packed), "--extract", str(tmp_path / "out")]) == 2


def test_every_fault_of_a_file_is_found(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    record, out = "results/records/records.csv", tmp_path / "changed.zip"
    faults: dict[str, Callable[[dict[str, bytes]], Any]] = {
        f"missing: {record}": lambda found: found.pop(record),
        "added: more.txt": lambda found: found.update({"more.txt": b""}),
        f"changed: {record}": lambda found: found.update({record: found[record] + b"\n"}),
        f"changed: {METADATA}": lambda found: found.update({METADATA: b"{}"}),
    }
    for line, change in faults.items():
        assert cli.run(verify, [str(changed(packed, out, change))]) == 1
        assert line in capsys.readouterr().out


def test_a_list_that_was_changed_too_disagrees_with_the_metadata_or_the_id(packed: Path, tmp_path: Path) -> None:
    def replaced(found: dict[str, bytes]) -> None:
        lines = [line for line in found[SUMS].decode().splitlines() if not line.endswith("  code/Snakefile")]
        del found["code/Snakefile"]
        found[SUMS] = "".join(f"{line}\n" for line in lines).encode()

    assert cli.run(verify, [str(changed(packed, tmp_path / "a.zip", replaced))]) == 1
    assert cli.run(verify, [str(packed), "--id", "0" * 64]) == 1


def test_damaged_bytes_are_a_changed_file(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    damaged = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as source:
        info = source.getinfo("results/records/records.csv")
    place = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    damaged[place] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(damaged)
    assert cli.run(verify, [str(tmp_path / "damaged.zip")]) == 1
    assert "changed: results/records/records.csv" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\..\\b", "C:/a", "a//b", "./a", "a/", "", "a\n", "a/."])
def test_names_that_lead_out_are_not_safe(name: str) -> None:
    assert unsafe_name(name)
    assert not unsafe_name("results/records/é {0}.csv")


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    def zipped(name: str, *infos: tuple[str, int], text: bytes = b"x") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as target:
            for member, mode in infos:
                info = zipfile.ZipInfo(member)
                info.external_attr = mode << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                target.writestr(info, text)
        return tmp_path / name

    def opened(path: Path, limits: Limits = Limits()) -> Callable[[], Any]:  # noqa: B008 (frozen)
        def call() -> Any:
            with open_archive(path, limits) as found:
                return found.names

        return call

    plain = ("a", stat.S_IFREG | 0o644)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped("twice.zip", plain, plain)
    refused(
        ArchiveError,
        {
            "leads out": opened(zipped("out.zip", ("../a", 0))),
            "relative": opened(zipped("root.zip", ("/etc/passwd", 0))),
            "link": opened(zipped("link.zip", ("a", stat.S_IFLNK | 0o777))),
            "twice": opened(twice),
            "unpacks to more": opened(zipped("bomb.zip", plain, text=bytes(10**6)), Limits(bytes=10**5)),
            "more than 1": opened(zipped("many.zip", plain, ("b", 0)), Limits(files=1)),
            "no ZIP": opened(tmp_path / "text.zip"),
            "no file": opened(tmp_path / "gone.zip"),
        },
    )
    big = zipped("big.zip", plain, text=bytes(1000))
    with open_archive(big, Limits(text_bytes=10)) as found, pytest.raises(ArchiveError, match="too many"):
        found.read("a")
    assert cli.run(verify, [str(big)]) == 2  # no list of checksums


def test_a_size_that_lies_costs_no_more_than_it_says(tmp_path: Path) -> None:
    """The list says ten bytes, the stream holds a million: ten are read, and the checksum tells."""
    file = tmp_path / "lies.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a", bytes(10**6))
    found = zipfile.ZipFile(file)
    found.getinfo("a").file_size = 10
    with pytest.raises(ArchiveError, match="damaged"):
        Archive(found, file, Limits()).read("a")


def test_no_damage_ends_in_a_traceback(tmp_path: Path) -> None:
    """Bytes of a small archive are changed, cut and replaced: it does not hold, or is refused in one sentence."""
    listed = {"results/é.csv": b"a" * 50, METADATA: b"{}"}
    sums = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in sorted(listed.items()))
    write_archive(tmp_path / "whole.zip", {**listed, SUMS: sums.encode()})
    whole, file = (tmp_path / "whole.zip").read_bytes(), tmp_path / "damaged.zip"
    draw, ended = random.Random(0), {0: 0, 1: 0, 2: 0}
    directory = whole.index(b"PK\x01\x02")
    for number in range(300):
        damaged = bytearray(whole)
        place = draw.randrange(directory if number % 2 else 0, len(whole))
        if number % 3:
            damaged[place] = draw.choice([0, 255, draw.randrange(256)])
        elif number % 9:
            damaged[place : place + draw.randrange(30)] = draw.randbytes(draw.randrange(30))
        else:
            damaged = damaged[:place]
        file.write_bytes(damaged)
        ended[cli.run(verify, [str(file)])] += 1
    assert sum(ended.values()) == 300
    assert min(ended[1], ended[2]) > 25  # the metadata above describe nothing: no archive holds


def test_a_row_is_recomputed_from_its_windows(
    packed: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Synthetic intervals are invented: the mean agrees, its ends do not, and the exit status says so."""
    assert cli.run(verify, [str(packed), "--row", "smollm2-135m/rtn-b4-s0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("the model was not run" in line for line in lines)
    [mean] = [line for line in lines if line.startswith(("  kl_heldout:", "  kl_wikitext2:"))][:1]
    assert mean.endswith(("equal digits", "equal but for rounding"))
    assert any(line.endswith("DISAGREES") for line in lines)


def test_rows_that_are_not_there_are_refused(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for wanted, sentence in {
        "rtn": "MODEL/METHOD",
        "smollm2-135/rtn": "did you mean 'smollm2-135m'",
        "smollm2-135m/nothing": "no such row",
        "smollm2-135m/rtn": "may be any of",
    }.items():
        assert cli.run(verify, [str(packed), "--row", wanted]) == 2, wanted
        assert sentence in capsys.readouterr().err
    assert cli.run(verify, [str(packed), "--results", "x"]) == 2


def test_folders_that_are_no_study_are_refused(study: Path, project: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "a.zip")]
    assert cli.run(command.main, [str(tmp_path), *out]) == 2
    assert cli.run(command.main, [str(study), "--out", "a.tar"]) == 2
    assert cli.run(command.main, [str(study), *out, "--date", "30.11.2026"]) == 2
    assert cli.run(command.main, [str(study), *out, "--root", str(tmp_path)]) == 2
    assert next(iter(study_files(study / "records"))).startswith("results/records/")


def test_a_link_that_leads_out_of_the_results_is_refused(project: Path, tmp_path: Path) -> None:
    results = write_study(tmp_path / "study")
    (tmp_path / "secret").write_text("x")
    (results / "paper").mkdir()
    (results / "paper" / "paper.pdf").symlink_to(tmp_path / "secret")
    assert cli.run(command.main, [str(results), "--out", str(tmp_path / "a.zip"), "--root", str(project)]) == 2
