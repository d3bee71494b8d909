"""Published records: whole copies, a manifest that matches them, nothing from an unfinished study."""

from pathlib import Path

import pytest

from paper.publish import MANIFEST, Also, publish
from ramp.core.errors import RampError
from ramp.core.files import read_json, sha256_file, write_json
from tests.synthetic_records import write_records, write_study

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"


def test_manifest_names_every_file_with_its_checksum(tmp_path: Path) -> None:
    results = write_study(tmp_path / "results")
    manifest = publish(results, tmp_path / "out", "snakemake")
    copied = {path.name for path in (tmp_path / "out").iterdir()} - {MANIFEST}
    assert copied == set(manifest["files"])
    assert {"records.csv", "claims.json", "config.json"} <= copied
    for name in copied:
        assert manifest["files"][name]["sha256"] == sha256_file(
            results / ("records" if name != "config.json" else "") / name
        )


def test_another_study_adds_the_tables_that_the_first_lacks(tmp_path: Path) -> None:
    """Its tables, configuration and commits arrive; what both have stays the first one's."""
    results, league, out = write_study(tmp_path / "results"), tmp_path / "league", tmp_path / "out"
    (league / "records").mkdir(parents=True)
    for name in ("episodes.csv", "halo.csv", "records.csv"):
        (league / "records" / name).write_bytes((results / "records" / name).read_bytes())
    for name in ("episodes.csv", "halo.csv"):
        (results / "records" / name).unlink()
    (league / "league" / "m").mkdir(parents=True)
    write_json(league / "league" / "m" / "0.json", {"commit": "b"})
    write_json(league / "league" / "m" / "1.json", {"commit": "a"})
    write_json(league / "config.json", {"study": "league"})
    other = Also(league, "snakemake league", "in part")
    manifest = publish(results, out, "snakemake", also=[other])
    assert manifest["also"] == [
        {
            "study": "league", "command": "snakemake league", "note": "in part", "commits": ["a", "b"],
            "tables": ["episodes.csv", "halo.csv"],
        }
    ]  # fmt: skip
    assert {path.name for path in out.iterdir()} - {MANIFEST} == set(manifest["files"])
    assert manifest["files"]["config_league.json"]["sha256"] == sha256_file(league / "config.json")
    assert (out / "records.csv").read_bytes() == (results / "records" / "records.csv").read_bytes()
    for name in ("episodes.csv", "halo.csv"):
        (league / "records" / name).unlink()
    with pytest.raises(RampError, match="no table"):
        publish(results, out, "snakemake", also=[other])
    assert (out / MANIFEST).is_file(), "a refusal leaves what was published"


def test_unfinished_study_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "records")
    (tmp_path / "records" / "claims.json").unlink(missing_ok=True)
    with pytest.raises(RampError, match="finish the study"):
        publish(tmp_path, tmp_path / "out", "snakemake")
    assert not (tmp_path / "out").exists()


def test_what_is_published_matches_its_manifest() -> None:
    if not (PUBLISHED / MANIFEST).is_file():
        assert not list(PUBLISHED.glob("*.csv")), "records without a manifest: run python -m paper.publish"
        return
    files = read_json(PUBLISHED / MANIFEST)["files"]
    assert {path.name for path in PUBLISHED.iterdir()} - {MANIFEST, "README.md"} == set(files)
    assert all(sha256_file(PUBLISHED / name) == about["sha256"] for name, about in files.items())
