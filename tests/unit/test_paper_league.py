"""Tables, figures and text of the league and the optimum: there with their records, silent without; numbers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paper import style
from paper.anytime_curves import curve_at
from paper.claims import judge
from paper.figures.anytime import anytime, spread
from paper.figures.optimum import optimum
from paper.league import League, league_ratios
from paper.naming import model_title
from paper.study import Study
from paper.tables.league import ablations_table, league_summary_table, league_table
from paper.tables.optimum import additivity_table, optimum_table
from paper.tables.render import to_markdown
from paper.values_league import league_values
from tests.synthetic_league import BUDGETS, LEVEL, league_records, optimum_records
from tests.synthetic_records import SOURCE, cells, synthetic_study

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study({**league_records(), **optimum_records()})


def test_the_league_is_read_at_its_last_checkpoint_and_paired_with_the_knapsack(study: Study) -> None:
    league = League(study)
    assert league.checkpoints(SOURCE) == [10, 20]
    assert league.finals(SOURCE) == [20]
    assert league.headline(SOURCE) == 20
    difference = league.against(*(league.cell(SOURCE, 4.0, 20, name) for name in ("ramp", "knapsack")))
    assert difference.value == pytest.approx((0.8 * 1.005 - 1.0) * 1.5 / 4.0)
    assert difference.high < 0
    assert league.ratio(SOURCE, 20, "ramp").value == pytest.approx(0.8 * 1.005)
    assert league.ratio(SOURCE, 10, "random_search").value == pytest.approx(1.5 * 1.1 * 1.005)
    text = to_markdown(league_table(study))
    assert text.count("| RAMP (ours) | 2 |") == len(BUDGETS)
    assert "better" in text
    assert "RAMP, cold" not in text


def test_the_summary_has_a_column_per_checkpoint(study: Study) -> None:
    table = league_summary_table(study)
    assert [row.cells["allocator"] for row in table.rows] == ["random search", "RAMP (ours)"]
    assert table.rows[1].cells["20"].value == pytest.approx(0.804)
    assert table.rows[1].cells["budgets"] == "3.25, 3.5, 4"


def test_longer_runs_of_some_do_not_hide_the_others() -> None:
    """At a checkpoint that two runs reach the shorter one counts; where only one search ends it stands with the bar."""
    tables = league_records()
    longer = [{**row, "run_evals": 40, "kl_held": 0.1} for row in tables["league"] if row["allocator"] == "ramp"]
    longer += [{**row, "evals": 40, "spent": 40} for row in longer if row["evals"] == 20]
    league = League(synthetic_study({**tables, "league": [*tables["league"], *longer]}))
    assert (league.finals(SOURCE), league.headline(SOURCE)) == ([20, 40], 20)
    cells = [league.cell(SOURCE, 4.0, 20, name) for name in ("ramp", "random_search", "knapsack")]
    assert [int(cell.rows["run_evals"].iloc[0]) for cell in cells if cell] == [20, 20, 20]
    late = [league.cell(SOURCE, 4.0, 40, name) for name in ("ramp", "random_search", "knapsack")]
    assert [cell and int(cell.rows["evals"].iloc[0]) for cell in late] == [40, None, 1]


def test_a_variant_is_compared_with_its_own_method(study: Study) -> None:
    (row,) = ablations_table(study).rows
    assert (row.cells["variant"], row.cells["method"], row.cells["budget"]) == ("RAMP, cold", "RAMP (ours)", "3.5")
    assert row.cells["change"].value == pytest.approx((0.9 - 0.8) * 1.005 * 1.5 / 3.5)
    assert row.cells["reading"] == "worse"


@pytest.mark.parametrize("method_too", [True, False])
def test_a_variant_that_had_fewer_evaluations_is_compared_in_runs_as_short(method_too: bool) -> None:
    """Its runs end at 10, the method's at 20 and, or not, at 10: what a longer run has by then is no measure of it."""
    tables = league_records()
    for name, rows in tables.items():
        cold = [row for row in rows if row["allocator"] == "ramp_cold" and row["evals"] <= 10]
        short = [row for row in rows if row["allocator"] == "ramp" and row["budget_bits"] == 3.5 and row["evals"] <= 10]
        rest = [row for row in rows if row["allocator"] != "ramp_cold"]
        ends = cold + short if method_too else cold
        tables[name] = rest + [{**row, "run_evals": 10} for row in ends]
    study = synthetic_study(tables)
    if not method_too:
        assert not ablations_table(study).rows
        assert not league_ratios(study, "ramp", ["ramp_cold"])
        return
    (row,) = ablations_table(study).rows
    assert (row.cells["evals"], row.cells["seeds"]) == ("10", "2")
    assert row.cells["change"].value == pytest.approx((0.9 - 0.8) * 1.1 * 1.005 * 1.5 / 3.5)
    (ratio,) = league_ratios(study, "ramp", ["ramp_cold"])
    assert ratio[0].endswith("3.5 bits, 10 evaluations")
    assert ratio[1].value == pytest.approx(0.8 / 0.9)
    assert League(study).headline(SOURCE) == 20


def test_a_claim_about_a_switch_is_measured_on_the_league(study: Study) -> None:
    from paper.measures import ablated

    (found,) = ablated(study, method="ramp", ablations=["ramp_cold", "ramp_symmetric"])
    assert found.estimate.value == pytest.approx(0.8 / 0.9)
    assert found.estimate.high < 1
    assert found.rows == (f"{SOURCE}/ramp-b3.5 (league)", f"{SOURCE}/ramp_cold-b3.5 (league)")


def without(tables: Tables, **values: Any) -> Tables:
    """The rows that do not have all of ``values``."""
    return {
        name: [row for row in rows if any(row.get(key) != value for key, value in values.items())]
        for name, rows in tables.items()
    }


def test_a_switch_of_one_seed_decides_no_claim() -> None:
    study = synthetic_study(without(league_records(), allocator="ramp_cold", seed=1))
    ((label, ratio, _),) = league_ratios(study, "ramp", ["ramp_cold"])
    assert label.endswith(", one seed")
    assert ratio.value == pytest.approx(0.8 * 1.005 / 0.9)
    assert (ratio.low, ratio.high) == (None, None)
    assert "Of one seed an interval is over windows alone" in to_markdown(ablations_table(study))


def test_a_claim_that_the_league_decides_names_the_leagues_model(study: Study) -> None:
    frames = {name: study.frames[name].assign(model="tiny-llama-s") for name in ("league", "league_windows")}
    study = Study(study.frames | frames)
    params = {"method": "ramp", "ablations": ["ramp_cold"]}
    entry = judge(study, {"id": "X", "measure": "ablated", "rule": {"below": 1.0}, "params": params})
    assert entry["verdict"] == "replicated"
    assert entry["scale"] == "analogue on tiny-llama-s"


def test_a_seed_without_an_incumbent_leaves_no_estimate() -> None:
    tables = league_records()
    lost = {"allocator": "random_search", "seed": 1, "evals": 20}
    for row in tables["league"]:
        if lost.items() <= row.items():
            row["kl_held"] = None
    league = League(synthetic_study({**without(tables, **lost), "league": tables["league"]}))
    assert league.cell(SOURCE, 4.0, 20, "random_search").held is None
    assert league.ratio(SOURCE, 20, "random_search") is None
    assert league.ratio(SOURCE, 20, "ramp") is not None
    fewer = {"allocator": "random_search", "seed": 1, "budget_bits": BUDGETS[0]}
    league = League(synthetic_study(without(league_records(), **fewer)))
    assert league.ratio(SOURCE, 20, "random_search") is None  # budgets with other numbers of seeds do not add up
    assert league.ratio(SOURCE, 20, "ramp", "random_search") is None


def test_gaps_and_additivity_have_their_lines(study: Study) -> None:
    last = cells(optimum_table(study), allocator="RAMP (ours)", evals=300)
    assert (last["seeds"], last["hits"], last["better"]) == ("2", "1 of 2", 2)
    assert [last[key] for key in ("kl", "optimum", "gap", "worst")] == pytest.approx([0.1002, 0.1, 0.002, 0.004])
    assert optimum_table(study).aside == ("Made by: python -m ramp.optimum --units halves-8.",)
    assert cells(additivity_table(study))["ratio"] == 1.25


def test_the_text_says_who_is_ahead(study: Study) -> None:
    found = dict(league_values(study))
    assert found["league.runs"] == "17 runs"
    words = found["league.reading.0"]
    assert "the held-out KL is 0.804" in words
    assert "times that of Fisher knapsack after 20 evaluations (2 seeds of ours, 1 seed of the rival): better." in words
    assert "league.reading.1" not in found
    assert found["league.switches.0"].endswith("Held-out KL is higher with “cold”.")
    assert "league.switches.1" not in found
    assert "At no checkpoint of the league is RAMP (ours) behind the best of its rivals" in found["league.advice"]
    assert "the held-out KL is 0.804 [" in found["league.advice"], "a judgement has its measure and interval"
    assert found["optimum.ramp.gap"] == "0.20"
    assert found["optimum.knapsack.worst"] == "2.00"


def test_the_text_says_who_found_every_optimum(study: Study) -> None:
    found = dict(league_values(study))
    assert not {"optimum.ramp.solved", "optimum.solvers"} & set(found)  # ours missed one, the knapsack all
    rows = optimum_records()["optimum"]
    solved = [{**row, "gap_share": 0.0, "gap": 0.0} if row["allocator"] == "ramp" else row for row in rows]
    others = [{**row, "allocator": "evolution"} for row in solved if row["allocator"] == "ramp"]
    found = dict(league_values(synthetic_study({"optimum": solved + others})))
    assert found["optimum.ramp.solved"] == "yes"
    assert found["optimum.solvers"] == "evolution"


def test_the_text_says_what_share_of_the_league_it_speaks_from() -> None:
    assert dict(league_values(synthetic_study(league_records(planned=1_200))))["league.runs"] == "17 of the 1,200 runs"


@pytest.mark.parametrize(
    ("warm", "own", "advice"),
    [
        (0.79, 0.80, "Evolution from the knapsack has less held-out KL than the knapsack on every model beyond noise"),
        (1.10, 1.0 / 1.005, "No allocator has less held-out KL than the knapsack on every model"),
        (0.90, 0.80, "this suite recommends no search: it recommends the knapsack"),
    ],
)
def test_a_rival_from_our_start_is_a_rival_and_the_advice_follows(warm: float, own: float, advice: str) -> None:
    """A variant of a rival stands in the league and not among the ablations, and the text names the best of them."""
    tables = league_records()
    levels = {"evolution_warm": warm, "ramp": own}
    for name, rows in tables.items():
        kept = [row for row in rows if row["allocator"] not in ("ramp_cold", "ramp")]
        for row in [row for row in rows if row["allocator"] == "random_search"]:
            for allocator, level in levels.items():
                new = {**row, "allocator": allocator}
                if name == "league":
                    new["method"] = "evolution" if allocator == "evolution_warm" else "ramp"
                    new["title"] = "Evolution from the knapsack" if allocator == "evolution_warm" else ""
                for column in {"kl", "kl_held", "kl_search"} & set(row):
                    new[column] = row[column] / LEVEL["random_search"] * level
                kept.append(new)
        tables[name] = kept
    study = synthetic_study(tables)
    league = League(study)
    assert league.allocators(SOURCE) == ["random_search", "evolution_warm", "knapsack", "ramp"]
    assert not ablations_table(study).rows
    rival = league.best_rival(SOURCE, 20)
    assert rival[0] == ("evolution_warm" if warm < 1 else "knapsack")
    assert rival[1].value == pytest.approx(own / warm if warm < 1 else own * 1.005)
    assert advice in dict(league_values(study))["league.advice"]


def test_figures_hold_every_allocator_once(study: Study) -> None:
    figure = anytime(study)
    assert [axis.get_title() for axis in figure.axes if axis.axison] == [
        f"{model_title(SOURCE)}, {b:g} bits" for b in BUDGETS
    ]
    assert not figure.legends
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert labels == {"alike: random search, Fisher\nknapsack", "RAMP (ours)"}  # beside their lines
    assert len(figure.axes[0].collections) == 2  # a band for each of the two with seeds
    gaps = optimum(study)
    assert [tick.get_text() for tick in gaps.axes[0].get_yticklabels()] == ["RAMP (ours)", "Fisher knapsack"]


def test_a_budget_at_which_nothing_searched_has_no_panel() -> None:
    tables = league_records()
    gone = {name: [row for row in rows if row["allocator"] == "knapsack" or row["budget_bits"] != 3.25]
            for name, rows in tables.items()}  # fmt: skip
    titles = [axis.get_title() for axis in anytime(synthetic_study(gone)).axes]
    assert titles == [f"{model_title(SOURCE)}, 3.5 bits", f"{model_title(SOURCE)}, 4 bits"]


def test_a_panel_without_a_difference_is_left_out_and_named() -> None:
    tables = league_records()
    for row in tables["league_curves"]:
        if row["budget_bits"] != 3.5:
            row["kl_held"] = 0.2
    figure = anytime(synthetic_study(tables))
    assert [axis.get_title() for axis in figure.axes] == [f"{model_title(SOURCE)}, 3.5 bits"]
    assert figure.get_supxlabel().startswith("2 panels left out, where all searches end within 0.0 % of each other: ")


def test_a_variant_that_kept_its_start_is_named() -> None:
    tables = league_records()
    at = {(r["budget_bits"], r["window"]): r["kl"] for r in tables["league_windows"] if r["allocator"] == "knapsack"}
    for row in tables["league_windows"]:
        if row["allocator"] == "ramp_cold":
            row["kl"] = at[row["budget_bits"], row["window"]]
    (kept,), (other,) = (ablations_table(synthetic_study(each)).rows for each in (tables, league_records()))
    assert kept.cells["reading"] == "worse, kept its start"
    assert "kept" not in other.cells["reading"]


def test_the_summary_is_of_the_budgets_that_all_ran_at(study: Study) -> None:
    gone = {name: [row for row in rows if row["allocator"] != "random_search" or row["budget_bits"] == 3.5]
            for name, rows in league_records().items()}  # fmt: skip
    found = [cells(league_summary_table(each), allocator="RAMP (ours)") for each in (study, synthetic_study(gone))]
    assert [row["budgets"] for row in found] == ["3.25, 3.5, 4", "3.5"]


def test_looks_are_distinct_and_budgets_spread() -> None:
    names = ["ramp", "knapsack", *(f"mine_{i}" for i in range(12))]
    looks = style.distinct(names)
    assert len(set(looks.values())) == len(names)
    assert looks["ramp"] == style.look("ramp")
    ours = {style.look("ramp")[0], style.look("ramp_paper")[0]}
    assert not ours & {colour for name, (colour, _) in looks.items() if name != "ramp"}, "RAMP's colours mean RAMP"
    assert spread([3.25, 3.5, 3.65, 3.75, 4.0]) == [3.25, 3.65, 4.0]
    assert spread([3.5]) == [3.5]


def test_a_curve_is_a_step_function_without_a_past(study: Study) -> None:
    frame = study.frames["league_curves"]
    run = frame[(frame["allocator"] == "ramp") & (frame["seed"] == 0) & (frame["budget_bits"] == 4.0)]
    at = curve_at(run, np.array([1, 2, 8, 9, 20]))
    assert np.isnan(at[0])
    assert at[1:] == pytest.approx([0.24, 0.24, 0.22, 0.20])


def test_an_ablation_stands_on_the_bank_where_its_method_is() -> None:
    """Not beside the method of another bank, however close; and the bank with more seeds of both is taken."""
    tables = league_records()
    there: Tables = {}
    for name, rows in tables.items():
        of_ramp = [row for row in rows if row["allocator"] in ("ramp", "ramp_cold") and row["budget_bits"] == 3.5]
        there[name] = [{**row, "bank": "there"} for row in of_ramp]
    scaled = [row for row in there["league_windows"] if row["allocator"] == "ramp_cold"]
    for row in scaled:
        row["kl"] *= 2
    for home_seeds, ratio in (((), 1.8 / 0.8), ((0,), 1.8 / 0.8), ((0, 1), 0.9 / 0.8)):
        home = tables
        for seed in {0, 1} - set(home_seeds):
            home = without(home, allocator="ramp_cold", seed=seed)
        league = League(synthetic_study({name: rows + there[name] for name, rows in home.items()}))
        assert league.banks == {SOURCE: ["first", "there"]}
        (one,) = league.ablations()
        assert (one.variant, one.base, one.budget) == ("ramp_cold", "ramp", 3.5)
        assert one.cell.kl.sum() / one.own.kl.sum() == pytest.approx(ratio)
        assert set(one.cell.rows["bank"]) == set(one.own.rows["bank"])
        assert league.ratio(SOURCE, 20, "ramp").value == pytest.approx(0.8 * 1.005), "other tables stay at home"
        assert "It need not be that of the league" in to_markdown(ablations_table(league.study))
