"""The published results page in a real browser: it loads, sorts, filters, tells what is behind a row."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.browser import BROWSER, browse

PAGE = Path(__file__).resolve().parents[2] / "results" / "published" / "index.html"
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")

PARTS = """
const part = (id) => document.getElementById(id);
const column = (id, place) => [...part(id).querySelectorAll("tbody tr")].map((row) => row.children[place].textContent);
const header = (id, title) => [...part(id).querySelectorAll("thead button")].find((each) => each.textContent === title);
const choice = (id, title) => [...part(id).querySelectorAll(".controls label")]
  .find((each) => each.firstChild.textContent === title).querySelector("select, input");
const set = (input, value, kind) => { input.value = value; input.dispatchEvent(new Event(kind)); };
const marks = (id) => [...part(id).querySelectorAll("figure [role=img][tabindex]")];
"""


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.split()[0].replace(",", "")) for cell in cells if cell != "–"]


def test_it_loads_without_errors_and_every_part_is_there(tmp_path: Path) -> None:
    script = """
      report.sections = [...document.querySelectorAll("section")].map((each) => each.id);
      report.marks = Object.fromEntries(["records", "gguf", "maps", "league"].map((id) => [id, marks(id).length]));
      report.forest = ["tbody tr", "td.forest svg"].map((each) => part("claims").querySelectorAll(each).length);
      const wanted = ["caption", "thead th[scope=col]", "tbody th[scope=row]"];
      const tables = [...document.querySelectorAll("table")], named = [...document.querySelectorAll("[id]")];
      report.unnamed = tables.filter((table) => !wanted.every((each) => table.querySelector(each))).length;
      report.duplicates = named.length - new Set(named.map((each) => each.id)).size;
      report.requests = performance.getEntriesByType("resource").length;
      report.banner = !part("banner").hidden;
    """
    report = browse(PAGE, PARTS + script, tmp_path)
    assert report["errors"] == []
    assert report["sections"] == ["records", "claims", "gguf", "maps", "league", "tables"]
    assert all(count >= 5 for count in report["marks"].values()), report["marks"]
    assert report["forest"][0] == 12
    assert 5 < report["forest"][1] < 12, "claims that were measured have a line in the forest plot"
    assert report["unnamed"] == report["duplicates"] == report["requests"] == 0
    assert not report["banner"], "the published study is evidence"


def test_it_sorts_and_filters(tmp_path: Path) -> None:
    script = """
      const kl = [...part("records").querySelectorAll("thead button")].findIndex((each) => each.textContent === "KL");
      header("records", "KL").click();
      report.up = column("records", kl);
      header("records", "KL").click();
      report.down = column("records", kl);
      report.said = header("records", "KL").parentNode.getAttribute("aria-sort");
      set(choice("records", "method"), "GPTQ", "change");
      report.methods = column("records", 1);
      report.drawn = marks("records").length;
      set(choice("records", "method"), "", "change");
      set(choice("records", "words"), "knapsack 3.65", "input");
      report.words = column("records", 1);
      set(choice("records", "words"), "", "input");
      report.before = part("records").querySelectorAll(".warn").length;
      set(choice("records", "accounting"), "", "change");
      report.mixed = [...part("records").querySelectorAll(".warn")].map((each) => each.textContent);
      set(choice("records", "model"), "", "change");
      report.panels = part("records").querySelectorAll("figure").length;
    """
    report = browse(PAGE, PARTS + script, tmp_path)
    assert report["errors"] == []
    up, down = numbers(report["up"]), numbers(report["down"])
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert len(set(up)) > 5
    assert report["said"] == "descending"
    assert set(report["methods"]) == {"GPTQ"}
    assert report["drawn"] == len(report["methods"]) >= 2
    assert report["words"] == ["Fisher knapsack"]
    assert report["before"] == 0
    assert len(report["mixed"]) == 1
    assert "ways of counting on one axis" in report["mixed"][0], "rows of other accountings are never mixed in silence"
    assert report["panels"] == 2


def test_marks_are_reached_by_keyboard_and_tell_command_commit_and_file(tmp_path: Path) -> None:
    script = """
      const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      marks("records")[0].focus();
      report.tip = [part("tip").hidden, part("tip").textContent];
      press("ArrowRight");
      report.moved = document.activeElement === marks("records")[1];
      press("Enter");
      report.open = part("behind").open;
      const facts = [...part("behind").querySelectorAll("dt")];
      report.facts = facts.map((each) => [each.textContent, each.nextElementSibling.textContent]);
      report.link = part("behind").querySelector("a").getAttribute("href");
    """
    report = browse(PAGE, PARTS + script, tmp_path)
    assert report["errors"] == []
    assert report["tip"][0] is False
    assert "KL: " in report["tip"][1]
    assert report["moved"]
    assert report["open"]
    facts = dict(report["facts"])
    assert facts["command"].startswith("snakemake ")
    assert len(facts["commit"]) >= 40
    line = int(facts["file"].rsplit(" ", 1)[1])
    with (PAGE.parent / report["link"]).open(encoding="utf-8", newline="") as file:
        row = list(csv.reader(file))[line - 1]
    model, name = facts["row"].split(", ")[0].split("/")
    assert row[1] == model
    assert name.startswith(f"{row[2]}-b")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_at_the_side(width: int, tmp_path: Path) -> None:
    report = browse(PAGE, "report.wide = [document.documentElement.scrollWidth, innerWidth];", tmp_path, width)
    assert report["errors"] == []
    assert report["wide"][0] <= report["wide"][1] == width
