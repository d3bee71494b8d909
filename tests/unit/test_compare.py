"""Two runs compared: the promise that each number is held to, the stage at which runs part, claims, exit statuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from scipy import stats

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.provenance import Machine
from ramp.records.compare import main
from ramp.records.compare_report import Comparison, compare
from ramp.records.compare_side import Recorded
from ramp.records.row_agreement import EQUAL, FLOOR, NONE, OTHER_WINDOWS, WINDOWS, noise_floor, prediction_interval
from ramp.records.table import write_claims, write_table
from tests.rows import row_key
from tests.sealed import read_json
from tests.synthetic_gguf import file_row

FILES = {"texts": {"texts/a": "1"}, "bank": {"bank/m/b": "2", "bank/m/c": "3"}, "metrics": {"metrics/m/r": "4"}}
KLS = (0.100, 0.104, 0.098, 0.101, 0.103)
"""KL of the knapsack on five banks."""


def row(method: str = "knapsack", kl: float | None = 0.1, **changes: Any) -> dict[str, Any]:
    """A record with intervals over windows: KL +- 0.02, perplexity 10 +- 3."""
    made = {"kl_heldout": kl, "kl_low_heldout": None if kl is None else kl - 0.02, "ppl_heldout": 10.0}
    made |= {"kl_high_heldout": None if kl is None else kl + 0.02, "ppl_low_heldout": 7.0, "ppl_high_heldout": 13.0}
    made |= {"n_windows_heldout": 12, "length_heldout": 64, "hardware": "a processor", "search_evals": 1}
    return row_key(method=method) | made | changes


def claims(**verdicts: str) -> list[dict[str, Any]]:
    empty = {"scale": "", "measure": "", "value": None, "margin": None, "rows": []}
    return [{"id": name, "verdict": verdict, **empty} for name, verdict in verdicts.items()]


def entry(files: Mapping[str, Mapping[str, str]] = FILES, **changes: Any) -> dict[str, Any]:
    stages = [{"stage": stage, "files": dict(names)} for stage, names in files.items()]
    made = {"config_hash": "c", "machine": vars(Machine.here()), "hardware": [], "dtype": ["float32"], "versions": {}}
    return made | {"stages": stages} | changes


def banks(method: str = "knapsack", kls: tuple[float, ...] = KLS, seed: int = 0) -> pandas.DataFrame:
    """Rows of banks.csv that were searched on their own bank."""
    own = {"model": "tiny", "method": method, "budget_bits": 4.0, "search_seed": seed, "n_windows": 12, "length": 64}
    places = range(len(kls))
    return pandas.DataFrame(own | {"bank_seed": places, "allocation_bank": places}).assign(kl=kls)


Write = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Write:
    """Writes a results folder of one study."""

    def write(
        name: str,
        rows: list[dict[str, Any]] | None = None,
        verdicts: Mapping[str, str] | None = None,
        digests: Mapping[str, Any] | None = None,
        over_banks: pandas.DataFrame | None = None,
    ) -> Path:
        records = tmp_path / name / "records"
        if rows != []:
            write_table(records / "records.csv", rows or [row()])
            write_claims(records / "claims.json", claims(**(verdicts or {"C1": "replicated"})))
        write_json(records / "digests.json", {"test": entry()} if digests is None else digests)
        if over_banks is not None:
            write_table(records / "banks.csv", over_banks.to_dict("records"))
        return tmp_path / name

    return write


def compared(a: Path, b: Path, **options: Any) -> Comparison:
    return compare(Recorded.read(a), Recorded.read(b), **options)


# --- promises ------------------------------------------------------------------------------------------------


def test_the_interval_of_a_new_bank_is_scipys() -> None:
    """Against scipy's own interval of Student's t, and the textbook's factor for five draws (2.776, two-sided 95 %)."""
    n, mean, sd = len(KLS), np.mean(KLS), np.std(KLS, ddof=1)
    expected = stats.t.interval(0.95, n - 1, loc=mean, scale=sd * np.sqrt(1 + 1 / n))
    assert prediction_interval(KLS) == pytest.approx(expected, rel=1e-12)
    low, high = prediction_interval(KLS)
    assert (high - low) / 2 == pytest.approx(2.776 * sd * np.sqrt(6 / 5), rel=1e-3)


def test_nineteen_of_twenty_new_banks_fall_inside() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        *known, new = rng.normal(0.1, 0.01, 6)
        low, high = prediction_interval(known)
        inside += low <= new <= high
    assert 0.935 < inside / 2000 < 0.965


def test_each_row_is_held_to_the_strictest_promise(run: Write) -> None:
    published = [row("rtn", 0.2), row("knapsack", 0.1), row("ramp", 0.1), row("gptq", 0.1)]
    mine = [row("rtn", 0.2), row("knapsack", 0.107), row("ramp", 0.107), row("gptq", 0.107)]
    over_banks = pandas.concat([banks(), banks("gptq", KLS[:1])])  # one bank says nothing of the noise
    found = compared(run("a", mine), run("b", published, over_banks=over_banks))
    promised = {each.row.split("-b")[0]: each for each in found.rows.measured if each.measure == "kl_heldout"}
    assert {name: each.promise for name, each in promised.items()} == {
        "tiny/rtn": EQUAL, "tiny/knapsack": FLOOR, "tiny/ramp": WINDOWS, "tiny/gptq": WINDOWS,
    }  # fmt: skip
    assert promised["tiny/ramp"].low == pytest.approx(0.08)
    assert (promised["tiny/knapsack"].low, promised["tiny/knapsack"].high) == prediction_interval(KLS)
    assert found.rows.by_promise() == {EQUAL: 1, FLOOR: 1, WINDOWS: 2, OTHER_WINDOWS: 0}
    assert not found.faults


def test_runs_without_a_row_in_common_are_held_to_their_digests(run: Write) -> None:
    """Two runs of one study on other models: nothing is measured, and equal digests are no agreement of rows."""
    other = {stage: {name: f"{digest}x" for name, digest in names.items()} for stage, names in FILES.items()}
    found = compared(run("a", [row(model="this")]), run("b", [row(model="that")], digests={"test": entry(other)}))
    assert not found.rows.measured
    assert found.faults == ["studies with other digests: 1"]


def test_a_row_outside_the_noise_floor_disagrees_inside_its_windows(
    run: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.115 is well inside the interval over windows, and not where a new bank may bring it."""
    a, b = run("a", [row(kl=0.115)]), run("b", [row(kl=0.1)], over_banks=banks())
    assert main([str(a), str(b)]) == 1
    said = capsys.readouterr().out
    assert "knapsack-b4-s0" in said
    assert "noise floor: 1, of which about 0.1" in said  # a prediction interval of 95 % is missed by one in twenty
    assert main([str(a), str(run("c", [row(kl=0.1)]))]) == 0


def test_a_floor_is_of_one_row_alone(run: Write) -> None:
    """Another search seed, storage, grid or budget has another noise."""
    table = banks(seed=1)
    assert noise_floor(table, row(seed=1)) == prediction_interval(KLS)
    for change in ({"seed": 0}, {"stage": "final_fp16"}, {"grid": "ggml"}, {"budget_bits": 3.0}, {"method": "ramp"}):
        assert noise_floor(table, row(seed=1) | change) is None
    assert noise_floor(None, row(seed=1)) is None


def test_a_floor_has_the_search_in_it_where_banks_were_searched() -> None:
    """The rows of one allocation on every bank stand beside those searched on each, and vary less."""
    fixed = banks(kls=(0.1, 0.1001, 0.0999, 0.1, 0.1002)).assign(allocation_bank=0)
    table = pandas.concat([banks(), fixed[fixed["bank_seed"] > 0]])
    assert noise_floor(table, row()) == prediction_interval(KLS)
    assert noise_floor(fixed, row()) == prediction_interval(fixed["kl"].tolist())
    assert noise_floor(table, row(n_windows_heldout=36)) is None


def test_a_row_without_any_interval_agrees_by_its_digits_alone(run: Write) -> None:
    without = {"kl_low_heldout": None, "kl_high_heldout": None}
    found = compared(run("a", [row(kl=0.1001, **without)]), run("b", [row(kl=0.1, **without)]))
    assert [each.promise for each in found.rows.outside] == [NONE]
    assert not compared(run("c", [row(**without)]), run("d", [row(**without)])).faults


def test_perplexity_is_held_to_its_windows(run: Write) -> None:
    found = compared(run("a", [row(ppl_heldout=14.0)]), run("b", over_banks=banks()))
    assert [(each.measure, each.promise) for each in found.rows.outside] == [("ppl_heldout", WINDOWS)]


# --- rows that do not pair -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"grid": "ggml"}, {"stage": "bank"}, {"seed": 1}, {"fold": "awq"}])
def test_rows_of_another_key_never_pair(run: Write, change: dict[str, Any]) -> None:
    a, b = run("a", [row(kl=5.0) | change]), run("b")
    found = compared(a, b)
    assert not found.rows.measured
    assert (len(found.rows.only_a), len(found.rows.only_b)) == (1, 1)
    assert (main([str(a), str(b)]), main([str(a), str(b), "--strict"])) == (0, 1)


@pytest.mark.parametrize("change", [{"length_heldout": 128}, {"kl_heldout": None}, {"dtype": "bfloat16"}])
def test_numbers_of_other_text_are_not_compared(run: Write, change: dict[str, Any]) -> None:
    a, b = run("a", [row(kl=5.0) | change]), run("b", [row(dtype="float32")])
    found = compared(a, b)
    assert not found.rows.measured
    [reason] = found.rows.unlike.values()
    assert next(iter(change)) in reason
    assert (main([str(a), str(b)]), main([str(a), str(b), "--strict"])) == (0, 1)


def test_another_depth_is_held_to_both_intervals_by_its_kl(run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """README's first command scores 12 windows, the published rows have 36: agreement within both, a weaker promise."""
    reach = 0.02 * 2**0.5  # of a difference of two numbers +- 0.02
    for share, agrees in ((0, True), (0.99, True), (1.01, False), (-1.1, False)):
        kl = 0.1 + share * reach
        a, b = run("a", [row(kl=kl, ppl_heldout=99.0)]), run("b", [row(n_windows_heldout=36)])
        [held] = compared(a, b).rows.measured
        assert (held.measure, held.promise, held.agrees) == ("kl_heldout", OTHER_WINDOWS, agrees)
        assert "12 and 36" in held.note
        assert main([str(a), str(b)]) == int(not agrees)
        assert "a weaker promise" in capsys.readouterr().out
    without = compared(run("a", [row(kl_low_heldout=None)]), run("b", [row(n_windows_heldout=36)]))
    assert "without intervals" in "".join(without.rows.unlike.values())


def test_another_depth_is_held_to_banks_of_its_own_windows(run: Write) -> None:
    """Rows over banks may have been run at the depth of the run, and not at that of the published rows."""
    for kl, agrees in ((0.107, True), (0.115, False)):
        b = run("b", [row(n_windows_heldout=36)], over_banks=banks())
        [held] = compared(run("a", [row(kl=kl)]), b).rows.measured
        assert (held.promise, held.agrees) == (FLOOR, agrees)
    [held] = compared(run("a", [row(n_windows_heldout=24)]), b).rows.measured
    assert held.promise == OTHER_WINDOWS, "banks on 12 windows say nothing of 24"


def league_row(kl: float, **changes: Any) -> dict[str, Any]:
    key = {"model": "tiny", "bank": "b", "grid": "affine", "budget_bits": 4.0, "run_evals": 9, "allocator": "ramp"}
    key |= {"method": "ramp", "seed": 0, "evals": 9}
    return {**key, "kl_held": kl, "ci_low": kl - 0.01, "ci_high": kl + 0.01, **changes}


def test_tables_beside_the_records_are_compared_row_by_row(run: Write) -> None:
    """League, files and banks pair by the columns that name their rows; another bank of the league pairs with none."""
    a, b = run("a"), run("b", over_banks=banks())
    for folder, kls in ((a, (0.1, 0.2, 0.5)), (b, (0.1, 0.205, 0.4))):
        rows = [league_row(kls[0]), league_row(kls[1], allocator="ppo"), league_row(9.0, bank=f"of {folder.name}")]
        write_table(folder / "records" / "league.csv", rows)
        file = file_row("x.gguf", "knapsack", True, 100, kls[2], "tiny") | {"rival": "none"}
        write_table(folder / "records" / "gguf.csv", [file])
    write_table(a / "records" / "banks.csv", banks(kls=(*KLS[:4], 0.2)).to_dict("records"))
    found = compared(a, b)
    seen = [each for each in found.rows.measured if ": " in each.row]
    promises = sorted((each.row.split(":")[0], each.promise, each.agrees) for each in seen)
    assert promises == [
        *[("banks", EQUAL, True)] * 4, ("banks", FLOOR, False),
        ("gguf", OTHER_WINDOWS, False), ("league", EQUAL, True), ("league", WINDOWS, True),
    ]  # fmt: skip
    assert len([name for name in found.rows.only_a if name.startswith("league")]) == 1
    assert main([str(a), str(b)]) == 1


def test_numbers_of_another_arithmetic_are_not_compared(run: Write) -> None:
    a, b = run("a", [row(kl=5.0)], digests={"test": entry(dtype=["bfloat16"])}), run("b")
    found = compared(a, b)
    assert not found.rows.measured
    assert "bfloat16" in "".join(found.rows.unlike.values())
    assert "bfloat16" in "".join(found.partings[0].otherwise)


def test_times_and_hardware_are_never_compared(run: Write) -> None:
    found = compared(run("a", [row(search_wall_s=1.0, hardware="x", commit="a", peak_rss_bytes=1)]), run("b"))
    assert found.rows.by_promise()[EQUAL] == 1
    assert not found.faults


def test_rows_without_numbers_are_no_disagreement(run: Write) -> None:
    none = row(kl=None, ppl_heldout=None, note="needs a GPU", n_windows_heldout=None)
    found = compared(run("a", [none, row("rtn")]), run("b", [none, row("rtn")]), strict=True)
    assert (found.rows.empty, found.faults) == (1, [])


# --- digests -------------------------------------------------------------------------------------------------


def test_equal_runs_part_nowhere(run: Write) -> None:
    found = compared(run("a"), run("b"), strict=True)
    assert found.partings[0].same
    assert found.partings[0].first is None
    assert "they agree" in found.report()


def test_the_first_stage_that_differs_is_named(run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """The bank and what follows: the bank it is, in the order of the pipeline and not of the alphabet or the file."""
    changed = {"metrics": {"metrics/m/r": "9"}, "bank": {"bank/m/b": "9", "bank/m/c": "3"}, "texts": {"texts/a": "1"}}
    a, b = run("a", digests={"test": entry(changed)}), run("b")
    found = compared(a, b)
    first = found.partings[0].first
    assert first is not None
    assert (first.stage, first.different, first.equal) == ("bank", ("bank/m/b",), 1)
    assert main([str(a), str(b)]) == 0  # the rows are what was promised
    assert "part at **bank**" in capsys.readouterr().out
    assert main([str(a), str(b), "--strict"]) == 1


def test_files_on_one_side_are_counted(run: Write) -> None:
    more = {**FILES, "halo": {"halo/m/x.gguf": "5"}}
    [found] = compared(run("a", digests={"test": entry(more)}), run("b")).partings
    assert not found.same
    assert found.first is None
    assert [each.only_a for each in found.stages if each.stage == "halo"] == [("halo/m/x.gguf",)]


def test_a_side_without_digests_is_said(run: Write) -> None:
    found = compared(run("a"), run("b", digests={}))
    assert len(found.without_digests) == 1
    assert str(found.b) in found.without_digests[0]
    assert found.machines["test"][1] == "a processor"  # what the records know of the machine


def test_digests_of_another_run_do_not_tell_the_machine_of_the_rows(run: Write) -> None:
    own, other = ({"test": entry(config_hash=hash_)} for hash_ in ("c", "of another depth"))
    rows = [row(config_hash="c")]
    found = compared(run("a", rows, digests=own), run("b", rows, digests=other))
    assert found.machines["test"][0] == str(Machine.here())
    assert found.machines["test"][1] == "a processor"
    assert found.partings[0].otherwise == ("configuration c and of another depth",)


def test_digests_alone_decide_where_no_rows_are_shared(run: Write) -> None:
    """A study of which nothing but the digests is published: any other file, and any file more, is a disagreement."""
    published = [row(study="other")]
    same, entries = run("a"), {"other": entry(), "test": entry()}
    assert main([str(same), str(run("b", published, digests=entries))]) == 0
    assert main([str(same), str(run("c", [], digests=entries))]) == 0
    for files in ({**FILES, "bank": {"bank/m/b": "0", "bank/m/c": "3"}}, {**FILES, "halo": {"halo/x": "1"}}):
        assert main([str(run("d", digests={"test": entry(files)})), str(run("b", published, digests=entries))]) == 1
    found = compared(same, run("e", [row(kl=9.0, study="other")], {"C1": "not replicated"}, entries))
    assert not found.rows.measured
    assert not found.claims


# --- claims and reports --------------------------------------------------------------------------------------


def test_a_changed_verdict_disagrees_and_an_untested_claim_does_not(run: Write) -> None:
    a = run("a", verdicts={"C1": "replicated", "C2": "partly", "C3": "not tested"})
    assert main([str(a), str(run("b", verdicts={"C1": "replicated", "C2": "partly", "C3": "partly"}))]) == 0
    found = compared(a, run("c", verdicts={"C1": "replicated", "C2": "replicated", "C4": "partly"}))
    assert [claim.id for claim in found.claims if claim.changed] == ["C2"]
    assert {claim.id for claim in found.claims if claim.alone} == {"C4"}
    assert main([str(a), found.b]) == 1


def test_reports_are_written_whatever_the_outcome(run: Write, tmp_path: Path) -> None:
    a, b, out = run("a", [row(kl=5.0), row("rtn")]), run("b", [row(), row("rtn")]), tmp_path / "out"
    assert main([str(a), str(b), f"--out={out / 'x.md'}", f"--out={out / 'x.json'}"]) == 1
    short, found = (out / "x.md").read_text(), read_json(out / "x.json")
    assert found["agree"] is False
    assert found["by_promise"][EQUAL] == 1
    assert [each["row"] for each in found["rows"]["measured"] if not each["agrees"]] == [
        "tiny/knapsack-b4-s0 (test, affine, final, groups of 32, fold none)"
    ]
    assert "tiny/rtn" not in short
    assert main([str(a), str(b), "--all", f"--out={out / 'x.md'}"]) == 1
    assert "tiny/rtn" in (out / "x.md").read_text()


def test_bad_input_exits_with_two_and_one_sentence(
    run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run("good")
    (tmp_path / "empty").mkdir()
    broken, flawed, other = run("broken"), run("flawed"), run("other", [row(study="x")], digests={"x": entry()})
    (broken / "records" / "records.csv").write_text("study,model\nx\n")
    (flawed / "records" / "banks.csv").write_text("model,kl\na,1\n")
    cases = {
        "no folder": [str(good), str(tmp_path / "gone")],
        "neither records.csv": [str(tmp_path / "empty"), str(good)],
        "records.csv": [str(broken), str(good)],
        "lacks the column": [str(good), str(flawed)],
        "no study in common": [str(good), str(other)],
        ".md or .json": [str(good), str(good), "--out=report.pdf"],
    }
    for words, arguments in cases.items():
        assert cli.run(main, arguments) == 2
        [sentence] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert words in sentence


def test_dtype_and_arithmetic_of_a_row_count_without_digests(run: Write) -> None:
    """Rows say in which dtype they were scored; older ones, which do not, are compared as before."""
    a = run("a", [row(kl=0.11, dtype="bfloat16", arithmetic="fast")], digests={})
    other = compared(a, run("b", [row(dtype="float32", arithmetic="reproducible")], digests={}))
    assert ["bfloat16" in reason for reason in other.rows.unlike.values()] == [True]
    same = compared(a, run("c", [row(dtype="bfloat16", arithmetic="reproducible")], digests={}))
    assert "arithmetic is fast and reproducible" in same.rows.measured[0].note
    assert compared(a, run("d", digests={})).rows.measured
