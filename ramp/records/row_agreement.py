"""Rows of two runs side by side: does each KL and perplexity lie where the other run promised?

A promise is the strictest that the second run gives: equal digits; else, for the KL of a row that it repeated over
banks, the interval in which a new bank falls; else the row's own interval over windows. A run that scored fewer or more
windows of the same length (another depth) is held to the weakest promise, and by its KL alone: that the difference of
both numbers, each with its interval, may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ramp.evaluation.bootstrap import LEVEL
from ramp.records.compare_side import Recorded
from ramp.records.schema import KEY_NAMES
from ramp.records.table import instances

if TYPE_CHECKING:
    import pandas as pd

EQUAL, FLOOR, WINDOWS, NONE = "equal digits", "noise floor over banks", "interval over windows", "no interval"
OTHER_WINDOWS = "intervals over other windows"
PROMISES = (EQUAL, FLOOR, WINDOWS, OTHER_WINDOWS, NONE)
"""Kinds of promise, the strictest first."""

FLOOR_ROW = {"grid": "affine", "stage": "final"}
FLOOR_MEASURE = "kl_heldout"
"""banks.csv holds final rows of the study's own track and grid, scored on held-out text."""
FLOOR_COLUMNS = {
    "model": "model", "method": "method", "budget_bits": "budget_bits", "search_seed": "seed",
    "n_windows": "n_windows_heldout", "length": "length_heldout",
}  # fmt: skip
"""Column of banks.csv -> column of a record that has the same value in the same row."""

Row = Mapping[str, Any]
Interval = tuple[float, float, float]  # value, low, high


def prediction_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Return the interval in which one more draw falls: mean +- t sd sqrt(1 + 1/n), Student's t of n - 1 degrees.

    ``values`` are n >= 2 independent draws, taken for normal (Hahn 1969).
    """
    import numpy
    from scipy.stats import t

    n = len(values)
    reach = float(t.ppf((1 + level) / 2, n - 1)) * float(numpy.std(values, ddof=1)) * (1 + 1 / n) ** 0.5
    mean = float(numpy.mean(values))
    return mean - reach, mean + reach


def difference_interval(a: Interval, b: Interval) -> tuple[float, float]:
    """Return between which numbers ``a`` may lie while its difference from ``b`` may be 0, both given as (value, low,
    high) with independent intervals: the method of variance estimates recovery (G. Y. Zou and A. Donner, Statistics in
    Medicine 27, 2008)."""
    (value, low, high), (other, other_low, other_high) = a, b
    below = ((other - other_low) ** 2 + (high - value) ** 2) ** 0.5
    above = ((other_high - other) ** 2 + (value - low) ** 2) ** 0.5
    return other - below, other + above


@dataclass(frozen=True)
class Measured:
    """One measure of one row in both runs."""

    row: str
    measure: str
    a: float
    b: float
    promise: str  # one of PROMISES
    low: float | None
    high: float | None
    agrees: bool
    note: str = ""


@dataclass
class Rows:
    """All rows of two runs."""

    measured: list[Measured] = field(default_factory=list)
    unlike: dict[str, str] = field(default_factory=dict)  # row -> why its numbers are not comparable
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    empty: int = 0  # rows without numbers in both

    @property
    def outside(self) -> list[Measured]:
        """Return what is not where it was promised."""
        return [each for each in self.measured if not each.agrees]

    def by_promise(self) -> dict[str, int]:
        """Return how many rows agree by each promise: the weakest that one of their measures needed."""
        failed = {each.row for each in self.outside}
        weakest: dict[str, int] = {}
        for each in self.measured:
            if each.row not in failed:
                weakest[each.row] = max(weakest.get(each.row, 0), PROMISES.index(each.promise))
        places = list(weakest.values())
        return {promise: places.count(place) for place, promise in enumerate(PROMISES[:-1])}


def row_name(row: Row) -> str:
    """Return the whole key of a row in words."""
    name = f"{row['model']}/{row['method']}-b{row['budget_bits']:g}-s{row['seed']}"
    return f"{name} ({row['study']}, {row['grid']}, {row['stage']}, groups of {row['group_size']}, fold {row['fold']})"


def noise_floor(banks: pd.DataFrame | None, row: Row) -> tuple[float, float] | None:
    """Return where the KL of ``row`` on a new bank is promised to lie; None without two banks of this very row.

    Taken are the banks of the row's own search seed, scored on as many windows: the same search on another draw of its
    inputs, as a run elsewhere is. Where no allocation was searched on its own bank, those of one allocation are taken.
    """
    if banks is None or any(row[name] != value for name, value in FLOOR_ROW.items()):
        return None
    same = banks[banks["kl"].notna()]
    for name, own in FLOOR_COLUMNS.items():
        same = same[same[name] == row[own]]
    searched = same[same["allocation_bank"] == same["bank_seed"]]
    same = searched if searched["bank_seed"].nunique() > 1 else same[same["allocation_bank"] == 0]
    draws = same.groupby("bank_seed")["kl"].mean().tolist()
    return prediction_interval(draws) if len(draws) > 1 else None


def missing(value: Any) -> bool:
    """Return whether a cell holds nothing."""
    return value is None or value != value or str(value) == "<NA>"


def differs(a: Row, b: Row, names: Sequence[str]) -> str:
    """Return the first of ``names`` that two rows have with other values, in words; empty where there is none."""
    for name in names:
        pair = [None if missing(row.get(name)) else row[name] for row in (a, b)]
        if name in a and name in b and pair[0] != pair[1] and "" not in pair:
            return f"{name} is {pair[0]} and {pair[1]}"
    return ""


def _interval(row: Row, measure: str, ends: Sequence[str]) -> Interval | None:
    """Return a measure of a row with its interval; None where one of them is missing."""
    values = [row.get(name) for name in (measure, *ends)]
    if any(missing(value) for value in values):
        return None
    value, low, high = (float(str(each)) for each in values)
    return value, low, high


def held_to(
    name: str, measure: str, a: Row, b: Row, ends: Sequence[str], floor: tuple[float, float] | None, other: str = ""
) -> Measured:
    """Return one measure of a row that both runs have, held to the strictest promise.

    ends: columns of the interval over windows; floor: where a new bank falls, if that is known; other: in words, how
    the two runs' windows differ, with which digits and one interval promise nothing.
    """
    values = float(a[measure]), float(b[measure])
    note = "; ".join(part for part in (other, differs(a, b, ("search_evals", "arithmetic"))) if part)
    if values[0] == values[1] and not other:
        return Measured(name, measure, *values, EQUAL, values[1], values[1], True, note)
    if floor:
        return Measured(name, measure, *values, FLOOR, *floor, floor[0] <= values[0] <= floor[1], note)
    sides = [_interval(row, measure, ends) for row in (a, b)]
    if sides[1] is None or (other and sides[0] is None):
        return Measured(name, measure, *values, NONE, None, None, False, note)
    if other and sides[0]:
        low, high = difference_interval(sides[0], sides[1])
        return Measured(name, measure, *values, OTHER_WINDOWS, low, high, low <= values[0] <= high, note)
    _, low, high = sides[1]
    return Measured(name, measure, *values, WINDOWS, low, high, low <= values[0] <= high, note)


def compare_rows(a: Recorded, b: Recorded, studies: set[str]) -> Rows:
    """Return the rows of ``studies`` side by side; ``b`` is the run that promises.

    Rows pair by their whole key. Numbers of windows of another length or of another arithmetic are never compared.
    """
    found = Rows()
    if a.records is None or b.records is None:
        return found
    texts = [text for text in instances(b.records.columns, "text") if f"kl_{text}" in a.records.columns]
    sides = [_by_key(side.records, studies) for side in (a, b)]
    found.only_a = [row_name(row) for key, row in sides[0].items() if key not in sides[1]]
    found.only_b = [row_name(row) for key, row in sides[1].items() if key not in sides[0]]
    for key, row in sides[0].items():
        if key in sides[1]:
            _compare_row(found, row, sides[1][key], texts, _arithmetic(a, b, row, sides[1][key]), b.banks)
    return found


def _compare_row(
    found: Rows, row: Row, other: Row, texts: Sequence[str], reason: str, banks: pd.DataFrame | None
) -> None:
    """Add to ``found`` what two rows of one key measured on every text; ``reason``: why their numbers are not alike."""
    name, compared = row_name(row), False
    for measure, text in ((f"{kind}_{text}", text) for text in texts for kind in ("kl", "ppl")):
        absent = [missing(side[measure]) for side in (row, other)]
        if all(absent):
            continue
        if any(absent):
            reason = reason or f"{measure} is on one side alone"
        reason = reason or differs(row, other, (f"length_{text}",))
        windows = differs(row, other, (f"n_windows_{text}",))
        kind, _, _ = measure.partition("_")
        if windows and kind != "kl":
            continue
        ends = [f"{kind}_{end}_{text}" for end in ("low", "high")]
        if windows and any(missing(side.get(end)) for side in (row, other) for end in ends):
            reason = reason or f"{windows}, without intervals"
        if reason:
            found.unlike[name] = reason
            break
        like = {**other, f"n_windows_{text}": row.get(f"n_windows_{text}")}  # of its banks, those on our windows
        floor = noise_floor(banks, like) if measure == FLOOR_MEASURE else None
        found.measured.append(held_to(name, measure, row, other, ends, floor, windows))
        compared = True
    if not compared and name not in found.unlike:
        found.empty += 1


def _by_key(records: pd.DataFrame, studies: set[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of ``studies`` by their whole key."""
    return by_columns(records[records["study"].isin(studies)], KEY_NAMES)


def by_columns(frame: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of a table by their values in ``columns``."""
    rows = ({str(name): value for name, value in row.items()} for row in frame.to_dict("records"))
    return {tuple(row[name] for name in columns): row for row in rows}


def _arithmetic(a: Recorded, b: Recorded, row: Row, other: Row) -> str:
    """Return how the arithmetic of two rows differs, as far as both runs recorded it."""
    if row.get("dtype") and other.get("dtype"):
        return differs(row, other, ("dtype",))
    known = [side.digests[row["study"]].dtype for side in (a, b) if row["study"] in side.digests]
    if len(known) == 2 and known[0] != known[1]:
        return f"dtype is {', '.join(known[0])} and {', '.join(known[1])}"
    return ""
