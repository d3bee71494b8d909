"""Merged rows say who, what machine and which bank; banks are not compared; conflicts are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ramp.archive.__main__ import archive
from ramp.archive.container import ArchiveError
from ramp.archive.merge import MERGED, WINDOWS, MergeError, bank_of, main, merge
from ramp.archive.verify import main as verify
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.provenance import Machine
from ramp.records.study_digests import StageDigests, StudyDigests, write_digests
from ramp.records.table import read_table, write_table
from tests.refusals import refused
from tests.synthetic_records import SOURCE, TARGET, write_study

MACHINE = Machine("Ada's processor", "x86_64", "AVX2", ("avx2",), {}, 1, 2, "glibc 2.36")


def digests(bank: str = "1") -> StudyDigests:
    """Digests of a study whose banks are ``bank``."""
    models = (SOURCE, TARGET)
    stages = {
        "texts": {"texts/heldout.jsonl": "a"},
        "calibration": {f"calibration/{model}.safetensors": "b" for model in models},
        "bank": {f"bank/{model}/awq-gptq/bank.json": bank for model in models},
        "metrics": {f"metrics/{model}/rtn-b4-s0.json": "c" for model in models},
    }
    listed = [StageDigests(stage=name, files=files) for name, files in stages.items()]
    return StudyDigests(config_hash="", machine=MACHINE, hardware=[], dtype=[], versions={}, stages=listed)


def run(folder: Path, bank: str = "1", factor: float = 1.0) -> Path:
    """A finished study whose KL is ``factor`` times the usual one."""
    results = write_study(folder)
    write_digests(results / "records" / "digests.json", {"synthetic": digests(bank)})
    if factor != 1:
        records = read_table(results / "records" / "records.csv")
        records["kl_heldout"] *= factor
        write_table(results / "records" / "records.csv", records)
    return results


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return run(tmp_path / "ours")


def call(*arguments: Any) -> int:
    return cli.run(main, [str(each) for each in arguments])


def test_rows_say_who_what_machine_and_which_bank(ours: Path, tmp_path: Path) -> None:
    into = tmp_path / "merged"
    assert call(ours, "--who", "Ada", "--into", into) == 0
    before = read_table(into / "merged.csv")
    records = read_table(ours / "records" / "records.csv")
    assert len(before) == len(records)
    assert set(before["who"]) == {"Ada"}
    assert set(before["machine"]) == {"Ada's processor"}
    assert set(before["instruction_set"]) == {"AVX2"}
    banks = before.groupby("model")["bank"].unique()
    assert [len(each) for each in banks] == [1] * len(banks)
    assert banks[SOURCE][0] != banks[TARGET][0]
    assert call(run(tmp_path / "theirs", factor=1.0), "--who", "Bob", "--into", into) == 0
    after = read_table(into / "merged.csv")
    assert len(after) == 2 * len(before)
    assert len(read_table(into / "merged_windows.csv")) == 2 * len(read_table(ours / "records" / "windows.csv"))


def test_the_same_run_twice_adds_nothing(ours: Path, tmp_path: Path) -> None:
    for _ in range(2):
        runs, found = merge(ours, tmp_path / "merged", "Ada")
        assert len(runs.rows) == len(read_table(ours / "records" / "records.csv"))
        assert not found


def test_rows_of_another_bank_stand_beside_and_are_not_compared(ours: Path, tmp_path: Path) -> None:
    merge(ours, tmp_path / "merged", "Ada")
    runs, found = merge(run(tmp_path / "other", "2", factor=2.0), tmp_path / "merged", "Ada")
    assert not found
    assert runs.rows.groupby("model")["bank"].nunique().tolist() == [2, 2]


def test_other_numbers_on_one_bank_are_a_conflict(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    into = tmp_path / "merged"
    merge(ours, into, "Ada")
    before = (into / "merged.csv").read_bytes()
    theirs = run(tmp_path / "theirs", factor=1.01)
    assert call(theirs, "--who", "Ada", "--into", into) == 1  # the same person and machine: the older rows stay
    assert (into / "merged.csv").read_bytes() == before
    assert "conflict: smollm2-135m/rtn-b4-s0" in capsys.readouterr().out
    assert call(theirs, "--who", "Bob", "--into", into) == 1
    assert set(read_table(into / "merged.csv")["who"]) == {"Ada", "Bob"}
    assert call(theirs, "--who", "Eve", "--into", into) == 1


def test_what_a_run_deleted_or_made_beside_its_bank_names_no_other_bank() -> None:
    kept, swept = digests(), digests()
    for stage in kept.stages:
        if stage.stage == "bank":
            stage.files[f"bank/{SOURCE}/awq-gptq/bank.safetensors"] = "w"  # a study that keeps all has it
        if stage.stage == "calibration":
            stage.files[f"folds/{SOURCE}/awq_w3.safetensors"] = "x"  # one more uniform row
    assert bank_of(kept, SOURCE, "run") == bank_of(swept, SOURCE, "run") != bank_of(digests("2"), SOURCE, "run")


def test_other_windows_of_one_bank_are_not_compared(ours: Path, tmp_path: Path) -> None:
    merge(ours, tmp_path / "merged", "Ada")
    theirs = run(tmp_path / "theirs", factor=1.01)
    records = read_table(theirs / "records" / "records.csv")
    records["n_windows_heldout"] = 3
    write_table(theirs / "records" / "records.csv", records)
    assert not merge(theirs, tmp_path / "merged", "Bob")[1]


def test_a_run_without_digests_has_a_bank_of_its_own(tmp_path: Path) -> None:
    runs, _ = merge(write_study(tmp_path / "a"), tmp_path / "merged", "Ada")
    assert {bank.partition("-")[0] for bank in runs.rows["bank"]} == {"run"}
    assert bank_of(digests(), "nothing", "run-1") == "run-1"


def test_a_damaged_table_is_named_where_the_user_has_it(ours: Path, tmp_path: Path) -> None:
    """In the archive, and not in the temporary folder that it is read from."""
    table, packed = ours / "records" / "windows.csv", tmp_path / "a.zip"
    table.write_text(table.read_text().rpartition(",")[0])
    archive(ours, packed)
    place = f"{packed}: results/records/windows.csv, line"
    calls: dict[str, Any] = {
        place: lambda: merge(packed, tmp_path / "merged", "Ada"),
        f"{place} ": lambda: verify([str(packed), "--row", f"{SOURCE}/rtn-b4-s0"]),
    }
    refused(RampError, calls)


def test_archives_and_merged_folders_merge(ours: Path, tmp_path: Path) -> None:
    archive(ours, tmp_path / "a.zip")
    assert call(tmp_path / "a.zip", "--who", "Ada", "--into", tmp_path / "first") == 0
    assert call(tmp_path / "first", "--into", tmp_path / "second") == 0
    assert (tmp_path / "second" / "merged.csv").read_bytes() == (tmp_path / "first" / "merged.csv").read_bytes()
    damaged = bytearray((tmp_path / "a.zip").read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(damaged)
    with pytest.raises(ArchiveError):
        merge(tmp_path / "b.zip", tmp_path / "third", "Ada")
    assert not (tmp_path / "third").exists()


def test_names_are_asked_for(ours: Path, tmp_path: Path) -> None:
    assert call(ours, "--into", tmp_path / "merged") == 2
    merge(ours, tmp_path / "merged", "Ada")
    with pytest.raises(MergeError, match="--who"):
        merge(tmp_path / "merged", tmp_path / "more", "Bob")
    assert call(tmp_path / "gone", "--who", "Ada") == 2


def test_windows_without_their_rows_are_not_replaced(ours: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    merge(ours, into, "Ada")
    (into / MERGED).unlink()
    before = (into / WINDOWS).read_bytes()
    with pytest.raises(RampError, match=f"holds {WINDOWS} and no {MERGED}"):
        merge(ours, into, "Ada")
    assert (into / WINDOWS).read_bytes() == before
