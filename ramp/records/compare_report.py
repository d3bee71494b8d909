"""Two runs compared: digests, rows, claims; whether they agree, and the report as Markdown that reads as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ramp.core.atomic_files import finite
from ramp.core.errors import RampError
from ramp.evaluation.bootstrap import LEVEL
from ramp.records.compare_side import Recorded
from ramp.records.compare_tables import compare_others
from ramp.records.first_difference import Parting, parting
from ramp.records.row_agreement import FLOOR, NONE, OTHER_WINDOWS, Measured, Rows, compare_rows
from ramp.records.schema import NO_EVIDENCE, NOT_TESTED

SHOWN = 5
"""Names of files that a stage shows without ``--all``."""


@dataclass(frozen=True)
class Claim:
    """The verdicts of two runs on one claim; None where a run has no such claim, or did not test it."""

    id: str
    a: str | None
    b: str | None

    @property
    def changed(self) -> bool:
        """Return whether both runs tested the claim, with another verdict."""
        return None not in (self.a, self.b) and self.a != self.b

    @property
    def alone(self) -> bool:
        """Return whether one run alone tested the claim."""
        return (self.a is None) != (self.b is None)


@dataclass(frozen=True)
class Comparison:
    """Agreement and differences of two runs, ``a`` and ``b``; ``b`` is the one that promises."""

    a: str  # folder
    b: str
    studies: list[str]  # whose rows both have
    partings: list[Parting]  # of the studies whose digests both have
    machines: dict[str, list[str]]  # study -> machine of a, machine of b
    without_digests: list[str]  # sentences: which side has none
    rows: Rows
    claims: list[Claim]
    strict: bool = False  # whether what one side alone has, and other digests, count as disagreement

    @property
    def digests_decide(self) -> bool:
        """Return whether digests are all that can be compared: no study, or no measured row, is in both."""
        return not self.studies or not self.rows.measured

    @property
    def faults(self) -> list[str]:
        """Return what disagrees, in words; empty where the runs agree."""
        rows = {each.row for each in self.rows.outside}
        counts = {"rows": len(rows), "claims": sum(claim.changed for claim in self.claims)}
        if self.strict or self.digests_decide:
            counts["studies with other digests"] = sum(not each.same for each in self.partings)
        if self.strict:
            counts["rows on one side"] = len(self.rows.only_a) + len(self.rows.only_b)
            counts["rows that are not comparable"] = len(self.rows.unlike)
            counts["claims tested on one side"] = sum(claim.alone for claim in self.claims)
            counts["studies without digests"] = len(self.without_digests)
        return [f"{what}: {count}" for what, count in counts.items() if count]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.faults:
            return f"they disagree ({', '.join(self.faults)})"
        compared = self.rows.measured or any(claim.a and claim.b for claim in self.claims)
        return "they agree" if compared or self.partings else "they have nothing that can be compared"

    def as_json(self) -> dict[str, Any]:
        """Return the whole comparison as a JSON value."""
        found = asdict(self)
        for measured in found["rows"]["measured"]:
            measured |= {name: finite(value) for name, value in measured.items()}
        return {"agree": not self.faults, "verdict": self.verdict, "by_promise": self.rows.by_promise(), **found}

    def report(self, everything: bool = False) -> str:
        """Return the report: counts first, then what disagrees, or with ``everything`` every row and file."""
        parts = [f"# {self.a} and {self.b}: {self.verdict}", "\n".join(self._counts())]
        parts += self._digests(everything)
        parts += self._rows(everything)
        parts += self._claims(everything)
        return "\n\n".join(part for part in parts if part) + "\n"

    def _counts(self) -> Iterator[str]:
        common = (
            f"rows of {', '.join(self.studies)} are in both" if self.studies else "no rows in common: digests decide"
        )
        yield f"- A is {self.a}, B is {self.b}; {common}"
        for each in self.partings:
            first, total = each.first, sum(len(side.different) for side in each.stages)
            one_sided = sum(len(side.only_a) + len(side.only_b) for side in each.stages)
            where = f"the runs part at **{first.stage}**" if first else "no file differs"
            counts = f"files that differ: {total}, equal: {each.equal}, on one side: {one_sided}"
            yield f"- digests of {each.study}: {where} ({counts})"
            if each.otherwise:
                yield f"- made otherwise: {'; '.join(each.otherwise)}"
        yield from (f"- digests: {sentence}" for sentence in self.without_digests)
        if self.studies:
            agreed = ", ".join(f"{count} by {promise}" for promise, count in self.rows.by_promise().items())
            outside = len({each.row for each in self.rows.outside})
            yield f"- rows that agree: {agreed}; rows that disagree: {outside}"
            if held := sum(each.promise == FLOOR for each in self.rows.measured):
                chance = f"{(1 - LEVEL) * held:.1f}"
                yield f"- rows held to the noise floor: {held}, of which about {chance} fall outside by chance"
            if weaker := sum(each.promise == OTHER_WINDOWS for each in self.rows.measured):
                yield (
                    f"- rows held to intervals over other windows: {weaker}; a weaker promise, of the KL alone: the "
                    "two runs scored other amounts of text, and are held to the intervals of both"
                )
            alone = f"{len(self.rows.only_a)} in A alone, {len(self.rows.only_b)} in B alone"
            yield f"- rows not compared: {len(self.rows.unlike)} measured otherwise, {self.rows.empty} empty, {alone}"
            changed = sum(claim.changed for claim in self.claims)
            both = sum(None not in (claim.a, claim.b) for claim in self.claims)
            alone = f"{sum(claim.alone for claim in self.claims)} tested on one side"
            yield f"- claims: {both - changed} same, {changed} changed, {alone}"
        for study, (mine, other) in self.machines.items():
            yield f"- {study} in A: {mine}"
            yield f"- {study} in B: {other}"

    def _digests(self, everything: bool) -> Iterator[str]:
        for each in self.partings:
            if each.same and not everything:
                continue
            yield f"## Files of {each.study}"
            cells = [
                (one.stage, one.equal, len(one.different), len(one.only_a), len(one.only_b)) for one in each.stages
            ]
            yield table(("stage", "equal", "different", "A alone", "B alone"), cells)
            shown = list(each.stages) if everything else [one for one in (each.first,) if one]
            for one in shown:
                names = one.different if everything else one.different[:SHOWN]
                more = f" and {len(one.different) - len(names)} more" if len(names) < len(one.different) else ""
                if names:
                    yield f"{one.stage}: {', '.join(names)}{more}"

    def _rows(self, everything: bool) -> Iterator[str]:
        listed = self.rows.measured if everything else self.rows.outside
        if listed:
            head = ("row", "measure", "A", "B", "promise", "from", "to", "", "note")
            yield "## Rows" if everything else "## Rows that disagree"
            yield table(head, [_cells(each) for each in listed])
        if everything and self.rows.unlike:
            yield "## Rows that are measured otherwise"
            yield "\n".join(f"- {name}: {reason}" for name, reason in self.rows.unlike.items())
        for side, names in (("A", self.rows.only_a), ("B", self.rows.only_b)):
            if everything and names:
                yield f"## Rows in {side} alone"
                yield "\n".join(f"- {name}" for name in names)

    def _claims(self, everything: bool) -> Iterator[str]:
        listed = [claim for claim in self.claims if everything or claim.changed]
        if listed:
            yield "## Claims" if everything else "## Claims that changed"
            cells = [
                (claim.id, claim.a or NOT_TESTED, claim.b or NOT_TESTED, "changed" if claim.changed else "")
                for claim in listed
            ]
            yield table(("claim", "A", "B", ""), cells)


def _cells(each: Measured) -> tuple[object, ...]:
    """Return one line of the table of rows; the noise floor is of KL alone."""
    ends = ["" if end is None else f"{end:.6g}" for end in (each.low, each.high)]
    if each.promise not in (FLOOR, NONE) and each.agrees and each.a == each.b:
        ends = ["", ""]
    verdict = "agrees" if each.agrees else "DISAGREES"
    return (each.row, each.measure, f"{each.a:.8g}", f"{each.b:.8g}", each.promise, *ends, verdict, each.note)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table with padded columns, so that it reads as text too."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def compare(a: Recorded, b: Recorded, strict: bool = False) -> Comparison:
    """Compare two runs; ``b`` is the one that promises, the published one.

    Raises:
        RampError: no study has rows, or digests, in both.
    """
    studies = a.studies & b.studies
    digested = sorted(set(a.digests) & set(b.digests))
    if not studies and not digested:
        names = [", ".join(sorted(side.studies | set(side.digests))) for side in (a, b)]
        raise RampError(
            f"{a.folder} ({names[0]}) and {b.folder} ({names[1]}) have no study in common, in records or digests: "
            "compare two runs of one study"
        )
    missing = [
        f"{side.folder} has none of study {study} (python -m ramp digests writes them)"
        for study in sorted(studies)
        for side in (a, b)
        if study not in side.digests
    ]
    rows = compare_rows(a, b, studies)
    if studies:  # tables beside the records name no study: they are of that of the records
        compare_others(rows, a, b)
    return Comparison(
        a=str(a.folder),
        b=str(b.folder),
        studies=sorted(studies),
        partings=[parting(study, a.digests[study], b.digests[study]) for study in digested],
        machines={study: [a.machine(study), b.machine(study)] for study in sorted(studies | set(digested))},
        without_digests=list(dict.fromkeys(missing)),
        rows=rows,
        claims=_compare_claims(a, b) if studies else [],
        strict=strict,
    )


def _compare_claims(a: Recorded, b: Recorded) -> list[Claim]:
    """Return the claims of two runs; what a run did not test, or on too little, is no verdict of it."""
    sides = [{claim["id"]: claim["verdict"] for claim in side.claims or ()} for side in (a, b)]
    none = (NOT_TESTED, NO_EVIDENCE)
    verdicts = [{name: verdict for name, verdict in side.items() if verdict not in none} for side in sides]
    return [Claim(name, verdicts[0].get(name), verdicts[1].get(name)) for name in dict.fromkeys([*sides[0], *sides[1]])]
