"""The results page: drawn from the records alone, honest labels, what is absent left out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from paper.naming import RAMP_METHODS
from paper.page.__main__ import main
from paper.page.content import content
from paper.page.origin import Origin
from paper.study import Study
from ramp.core.atomic_files import write_json
from tests.synthetic_gguf import gguf_records
from tests.synthetic_records import SOURCE, synthetic_study, write_study

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
PAGE = PUBLISHED / "index.html"


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


def cells(sheet: dict[str, Any], key: str) -> list[Any]:
    place = [column[0] for column in sheet["columns"]].index(key)
    return [row[0][place] for row in sheet["rows"]]


def test_the_published_page_is_the_one_of_the_published_records(tmp_path: Path) -> None:
    main(["--records", str(PUBLISHED), "--out", str(tmp_path / "index.html")])
    made, kept = (path.read_text(encoding="utf-8") for path in (tmp_path / "index.html", PAGE))
    link = data_of(made)["origin"]["file"].removesuffix("/records.csv")
    same = made.replace(f'"{link}/', '"./') == kept  # pytest would look for the difference of half a megabyte for hours
    assert same, "run: python -m paper.page"


def test_one_file_asks_for_nothing_else_and_stays_small() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    code = text.replace(json.dumps(data_of(text)), "")
    assert not re.search(r"<(link|img|iframe|script[^>]* src)|@import|url\(|fetch\(|XMLHttp", code)
    assert len(text.encode()) < 1_500_000


def test_every_row_names_its_lines_of_the_file() -> None:
    page = data_of(PAGE.read_text(encoding="utf-8"))
    with (PUBLISHED / "records.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    seen = []
    for _, places, _, behind in page["rows"]["rows"]:
        for place, name in zip(places, behind["row"].split(", "), strict=True):
            line = lines[place - 2]
            assert name.startswith(f"{line['model']}/{line['method']}-b{float(line['budget_bits']):g}-s{line['seed']}")
            assert line["commit"] in behind.get("commit", "")
        seen += places
    assert sorted(seen) == list(range(2, len(lines) + 2)), "every row of the file stands on the page once"


def test_commands_are_those_of_the_study_that_made_a_table(tmp_path: Path) -> None:
    page = data_of(PAGE.read_text(encoding="utf-8"))
    assert "league" in page["league"]["origin"]["command"]
    assert page["rows"]["origin"]["command"] != page["league"]["origin"]["command"]
    folder = write_study(tmp_path / "results") / "records"
    write_json(tmp_path / "results" / "config.json", {"results": "results/mine"})
    own = content(Study.read(folder), Origin.of(folder, Study.read(folder), "records"))
    assert all(
        row[3]["command"].startswith(f"snakemake --cores all results/mine/metrics/{row[3]['row'].split(', ')[0]}.json ")
        for row in own["rows"]["rows"]
    )
    assert own["origin"]["command"] == "snakemake --cores all --configfile results/mine/config.json"


def origin() -> Origin:
    return Origin("records", "snakemake", (), "", {})


def test_too_little_text_is_no_evidence_on_this_page_as_well() -> None:
    page = content(synthetic_study(gguf_records()), origin())
    assert page["missing"]
    assert {*cells(page["rows"], "reading"), *cells(page["gguf"], "reading")} - {None} == {"not evidence"}
    assert not data_of(PAGE.read_text(encoding="utf-8"))["missing"]


def test_a_study_of_other_methods_has_neither_claims_nor_parts_that_it_did_not_run() -> None:
    study = synthetic_study()
    rows = study.frames["records"]
    frames = {"records": rows[~rows["method"].str.startswith(RAMP_METHODS)], "windows": study.frames["windows"]}
    page = content(Study(frames, study.claims), origin())
    assert [name for name in ("claims", "gguf", "maps", "league") if page[name]] == []
    assert page["rows"]["rows"]
    assert "RAMP" not in page["title"]


def test_rows_that_count_otherwise_are_of_another_accounting() -> None:
    page = data_of(PAGE.read_text(encoding="utf-8"))
    behind = [row[3]["row"] for row in page["rows"]["rows"]]
    plain = [
        name for name, kind in zip(behind, cells(page["rows"], "accounting"), strict=True) if kind == "packed linears"
    ]
    assert plain
    assert not [name for name in plain if "-ggml" in name or "-fp16" in name or "hqq" in name or "/float" in name]


@pytest.mark.parametrize("model", [SOURCE])
def test_maps_hold_every_linear_of_a_mixed_row(model: str) -> None:
    study = synthetic_study()
    maps = content(study, origin())["maps"]
    assert maps
    part = study.frames["allocations"]
    blocks = int(part[part["model"] == model]["layer"].max()) + 1
    letters = {letter for letter, _, _ in maps["widths"]}
    for each in maps["maps"]:
        assert len(each["cells"]) == len(maps["roles"])
        assert all(len(row) == blocks and set(row) <= letters | {"."} for row in each["cells"])
