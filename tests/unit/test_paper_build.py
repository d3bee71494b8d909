"""Figures and the paper: they are made from whatever the records hold, byte for byte again, and invent nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from paper import intervals, style
from paper.build import SOURCE as PAPER
from paper.build import PaperError, stage, typeset
from paper.build import main as build_main
from paper.claims import main as claims_main
from paper.evidence import shortages
from paper.figures.__main__ import drawings
from paper.figures.__main__ import main as figures_main
from paper.figures.allocation import allocation, reported, widths
from paper.figures.claims import LOOKS
from paper.figures.learning import best_so_far
from paper.figures.outliers import channel_ratios
from paper.figures.transfer import transferred
from paper.naming import model_title
from paper.reproduction import SHIPPED
from paper.search_over_banks import bank_values
from paper.study import Study
from paper.tables.__main__ import main as tables_main
from paper.values import values
from ramp.core.atomic_files import write_json
from ramp.records.table import read_table, write_table
from tests.sealed import read_json
from tests.synthetic_gguf import gguf_records
from tests.synthetic_league import BENCHMARKS, PARITY, league_records, optimum_records, search_records
from tests.synthetic_leakage import leakage_records
from tests.synthetic_noise import noise_records
from tests.synthetic_records import SOURCE, TARGET, synthetic_study, write_records, write_tables
from tests.synthetic_tuning import tuning_records

pytest.importorskip("typst")

CONFIG = PAPER.parents[1] / "config"


def make(folder: Path, tables: dict | None = None, **options: object) -> Path:
    """Records, claims, tables and figures under ``folder``."""
    records = write_tables(write_records(folder / "records", **options), tables or {})
    claims_main([f"--records={records}", f"--out={records / 'claims.json'}"])
    tables_main([f"--records={records}", f"--out={folder / 'tables'}"])
    figures_main([f"--records={records}", f"--out={folder / 'figures'}"])
    return folder


def build(folder: Path, name: str = "paper.pdf") -> Path:
    arguments = [f"--{part}={folder / part}" for part in ("records", "tables", "figures")]
    assert build_main([*arguments, f"--out={folder / name}"]) == 0
    return folder / name


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """The intervals themselves are tested in test_paper_claims.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "DRAWS", 40)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, few_draws: None) -> Path:
    """Everything that records can hold."""
    tables = {**league_records(), **optimum_records(), **gguf_records(), **tuning_records()}
    tables |= noise_records() | leakage_records()
    tables |= {"benchmarks": BENCHMARKS, "parity": PARITY}
    return make(tmp_path_factory.mktemp("paper"), tables, controls=True, packages=True, skipped=True)


@pytest.fixture(scope="module")
def built(made: Path) -> Path:
    """The paper of all that."""
    return build(made)


def test_twice_gives_the_same_bytes(made: Path, built: Path, tmp_path: Path) -> None:
    first, second = built.read_bytes(), build(made, "again.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert first == second
    figures_main([f"--records={made / 'records'}", f"--out={tmp_path}", "--only", "pareto", "anytime"])
    assert len(list(tmp_path.iterdir())) == 4
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (made / "figures" / file.name).read_bytes()
    tables_main([f"--records={made / 'records'}", f"--out={tmp_path / 'tables'}"])
    for file in (tmp_path / "tables").iterdir():
        assert file.read_bytes() == (made / "tables" / file.name).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": (0, 1), "texts": ("heldout", "wikitext2"), "tables": search_records(0.97, 0.96, 0.98, 0.97, 0.99)},
        {"scored": False, "without": "transfer halo items episodes activations windows allocations".split()},
    ],
)
def test_the_paper_reads_on_with_less(tmp_path: Path, options: dict) -> None:
    assert build(make(tmp_path, **options)).stat().st_size > 50_000
    index = read_json(tmp_path / "tables" / "index.json")
    assert {f"main_{SOURCE}", f"main_{TARGET}", "claims", "transfer", "sizes", "choices"} <= set(index)
    assert all((tmp_path / "tables" / f"{name}.{end}").stat().st_size for name in index for end in ("tex", "typ", "md"))
    assert index["claims"]["rows"] == 12


def test_numbers_of_other_papers_stand_beside_the_papers_own_models_alone(
    made: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded study prints none; one of Llama-2-7B all of them, QuIP#, SqueezeLLM and OmniQuant among them."""
    quoted = {"quoted", "quoted_quip", "quoted_ggml", "quoted_tasks"}
    assert not quoted & set(read_json(made / "tables" / "index.json"))
    monkeypatch.setattr(Study, "is_paper_model", staticmethod(lambda model: True))
    folder = shutil.copytree(made, tmp_path / "paper")
    tables_main(["--records", str(folder / "records"), "--out", str(folder / "tables")])
    assert quoted <= set(read_json(folder / "tables" / "index.json"))
    printed = "".join((folder / "tables" / f"{name}.md").read_text() for name in quoted)
    assert all(name in printed for name in ("QuIP#", "SqueezeLLM", "OmniQuant"))
    assert build(folder).stat().st_size > built.stat().st_size


def test_absent_tables_draw_a_sentence() -> None:
    study = synthetic_study(without=("episodes", "activations", "allocations"))
    for name in ("learning", "outliers", "allocation"):
        (axes,) = drawings()[name](study).axes
        assert "hold no" in axes.texts[0].get_text()
        assert not axes.lines


def test_numbers_in_the_text_are_the_records(made: Path, built: Path) -> None:
    values = read_json(made / "values.json")["values"]
    records = pd.read_csv(made / "records" / "records.csv")
    row = records[(records.model == SOURCE) & (records.method == "ramp") & (records.budget_bits == 3.65)].iloc[0]
    assert values["row.ramp.low.ppl"].startswith(f"{row.ppl_heldout:.2f} [")
    assert values["row.ramp.low.saved_linear"] == f"{100 * (1 - row.bytes_linear / 124_416):.1f}"
    assert values["linears"] == "42"
    assert values["budget"] == "3.65"  # the searches' smallest, not the controls'
    assert values["group_size"] == "64"


def test_a_number_that_the_records_lack_fails_with_its_key(made: Path, tmp_path: Path) -> None:
    source = tmp_path / "paper.typ"
    source.write_text(PAPER.read_text() + '\n#v("row.nothing.ppl")\n')
    study = Study.read(made / "records", made / "records" / "claims.json")
    main_file = stage(tmp_path / "staged", study, made / "tables", made / "figures", source)
    with pytest.raises(PaperError, match=r"'row\.nothing\.ppl'"):
        typeset(main_file, tmp_path / "paper.pdf")
    assert not (tmp_path / "paper.pdf").exists()


@pytest.mark.parametrize(("ratio", "does"), [(0.97, "lowers the KL"), (1.03, "raises the KL")])
def test_the_text_follows_the_rows_over_banks(ratio: float, does: str) -> None:
    """The paper's sentence is the README's: by the side of the interval, with what it runs over."""
    found = dict(bank_values(synthetic_study(search_records(*(ratio + 0.001 * bank for bank in range(5))))))
    assert found["banks.ramp"].startswith(f"{does} at 3.65 bits (")
    assert found["banks.runs"] == "5 banks, 1 search seed on each, 12 windows"
    assert not dict(bank_values(synthetic_study()))
    text = PAPER.read_text(encoding="utf-8")
    assert text.count('v("banks.ramp")') == text.count('v("banks.runs")') > 0


def test_every_citation_is_in_the_bibliography() -> None:
    known = set(re.findall(r"@\w+\{(\w+),", PAPER.with_name("refs.bib").read_text()))
    labels = set(re.findall(r"<([a-z-]+)>", PAPER.read_text()))
    cited = set(re.findall(r"(?<![\w.])@([a-z0-9-]+)", re.sub(r"//.*", "", PAPER.read_text())))
    assert cited - labels == known


def test_best_so_far_leaves_out_what_is_over_the_budget() -> None:
    run = pd.DataFrame({"evals": [1, 2, 3, 4], "kl": [0.5, 0.1, 0.4, 0.45], "bytes": [90, 120, 95, 90]})
    evals, best = best_so_far(run, 100.0)
    assert evals.tolist() == [1, 2, 3, 4]
    assert best.tolist() == [0.5, 0.5, 0.4, 0.4]
    assert best_so_far(run, None)[1].tolist() == [0.5, 0.1, 0.1, 0.1]


def test_an_allocation_is_one_that_a_seed_found() -> None:
    study = synthetic_study(seeds=(0, 1))
    figure = allocation(study)
    entry = study.one(SOURCE, "ramp", 3.65)
    assert entry is not None
    found = reported(study, entry)
    drawn = figure.axes[0].collections[0].get_array().reshape(7, 6)
    assert np.array_equal(drawn, widths(found[found["seed"] == 0], {}))
    assert figure.axes[0].get_title(loc="left").endswith("seed 0 of 2")


def test_only_studies_of_this_suite_are_titled_as_its_replication() -> None:
    shipped = {str(yaml.safe_load(path.read_text()).get("study", "")) for path in CONFIG.glob("*.yaml")} - {""}
    assert set(SHIPPED) == shipped
    mine = synthetic_study(seeds=(0, 1))  # of a user: with RAMP, under its own name
    assert "ramp" in values(mine)
    assert not {"replication", "repro.command"} & set(values(mine))
    mine.frames["records"]["study"] = "embedded"
    own = values(Study(mine.frames))
    assert own["replication"] == "yes"
    assert own["repro.command"] == "snakemake --cores all"


def test_the_reproduction_names_every_commit_and_the_published_command(tmp_path: Path) -> None:
    records = write_records(tmp_path)
    frame = read_table(records / "records.csv")
    frame["commit"] = ["a" * 40 if place % 2 else "b" * 40 for place in range(len(frame))]
    write_table(records / "records.csv", frame)
    also = {"study": "league", "commits": ["c" * 40 + "-dirty"], "tables": ["league.csv"], "command": "x", "note": ""}
    write_json(records / "manifest.json", {"command": "snakemake --cores all --config depth=full", "also": [also]})
    found = values(Study.read(records))
    assert found["repro.command"].endswith("depth=full")
    assert found["repro.commits"] == f"{'a' * 10} and {'b' * 10}"
    assert found["repro.also.0"] == f"league (league): {'c' * 10}-dirty"
    assert found["repro.dirty"] == "yes"


def test_figures_of_a_study_that_is_no_evidence_say_so() -> None:
    study = synthetic_study()
    for name in ("pareto", "allocation"):
        marked = style.marked(drawings()[name](study), shortages(study))
        assert marked.get_suptitle().startswith("Not evidence: one seed")
    plain = style.marked(drawings()["pareto"](study), ())
    assert not plain.get_suptitle()


def test_the_mark_of_a_figure_lies_on_no_legend() -> None:
    study = synthetic_study()
    for name in ("outliers", "learning"):
        figure = style.marked(drawings()[name](study), shortages(study))
        figure.canvas.draw()
        (mark,), (legend,) = [text for text in figure.texts if "Not evidence" in text.get_text()], figure.legends
        assert not mark.get_window_extent().overlaps(legend.get_window_extent()), name


def test_channel_ratio_and_widths() -> None:
    study = synthetic_study()
    ratios = channel_ratios(study.frames["activations"]).set_index(["fold", "role", "layer"])["ratio"]
    assert ratios["none", "q", 2] == pytest.approx(240)
    assert ratios["awq", "down", 0] == pytest.approx(12)
    bits = widths(reported(study, study.one(SOURCE, "gptq", 3.0)), {})
    assert bits.shape == (7, 6)
    assert np.all(bits == 3)


@pytest.mark.parametrize("groups", [{}, {3: "affine-g32", 4: "affine-g-1"}])
def test_a_width_with_groups_of_its_own_is_named_in_text_and_figure(groups: dict[int, str]) -> None:
    study = synthetic_study()
    frame = study.frames["allocations"]
    other = frame["method"].eq("knapsack") & frame["bits"].isin(list(groups))
    frame.loc[other, "type"] = frame.loc[other, "bits"].map(groups)
    found = values(study)
    named = found["widths"].split(", ")
    figure = allocation(study)
    bar = figure.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()] == named
    if groups:
        assert named[:4] == ["3", "3g32", "4g-1", "4"]
        assert found["widths.group"] == "3g32: 3 bits, groups of 32; 4g-1: 4 bits, one group per row"
        assert "group size" in bar.get_ylabel()
    else:
        assert named[:2] == ["3", "4"]
        assert "widths.group" not in found
        assert bar.get_ylabel() == "bits per weight"


def test_the_second_map_is_the_difference_from_the_first() -> None:
    study = synthetic_study()
    one, other = (widths(reported(study, study.one(SOURCE, name, 3.65)), {}) for name in ("ramp", "knapsack"))
    axis = allocation(study).axes[1]
    assert np.array_equal(axis.collections[0].get_array().reshape(7, 6), np.sign(one - other))
    assert len(axis.texts) == int((one != other).sum())
    assert axis.get_title(loc="left").endswith(f": {len(axis.texts)} of 42 linears differ")


def test_a_model_of_the_transfer_figure_is_in_no_other() -> None:
    study = synthetic_study()
    assert set(transferred(study)) == {TARGET}
    assert [axis.get_title().split(" over ")[0] for axis in drawings()["pareto"](study).axes] == [model_title(SOURCE)]


def test_a_claim_looks_like_its_verdict(made: Path) -> None:
    study = Study.read(made / "records", made / "records" / "claims.json")
    measured = [entry for entry in study.claims if entry["value"] is not None]
    (axis,) = drawings()["claims"](study).axes
    drawn = {line.get_ydata()[0]: line for line in axis.lines if line.get_marker() != "None"}
    for height, entry in enumerate(reversed(measured)):
        colour, marker = LOOKS.get(entry["verdict"], (style.GREY, None))
        assert drawn[height].get_color() == colour
        assert marker in (None, drawn[height].get_marker())
        hollow = not entry["margin"] or entry["verdict"] not in LOOKS
        assert (drawn[height].get_markerfacecolor() == "white") == hollow
