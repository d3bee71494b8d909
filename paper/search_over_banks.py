"""RAMP's search beside the knapsack, and the knapsack beside uniform widths, over banks: what README, the paper and a
run's last lines say of them.

Every sentence follows the side of the interval and names over what it runs. Rows of the records are of one bank, with
windows and seeds of their own: they are told beside these, and compared with none of them. Where a study repeated its
own rows, bank 0 is the bank of the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paper.bank_intervals import FEW_BANKS, LEAST_BANKS, LITTLE_TEXT, OverBanks
from paper.banks import Banks
from paper.league import OWN
from paper.naming import REFERENCE_BITS, bits_title
from paper.study import Study
from paper.words import listed, shown
from ramp.methods.names import BAR

UNIFORM = "awq_gptq"
"""The uniform row beside which the knapsack is set: it shares kind of fold and rounding with mixed rows."""

SIDES = {-1: "lowers the KL", 0: "has no settled effect", 1: "raises the KL"}
"""Side of an interval of ratios to the knapsack -> what the search does."""


@dataclass(frozen=True)
class Standing:
    """The search beside the knapsack of the same banks at one budget."""

    budget: float
    ratio: OverBanks
    lower: int  # banks on which its KL is lower
    equal: int  # the same windows' sums: the warm start stood, in every seed
    higher: int
    has_record: bool  # the search's row of the records is its row on bank 0

    @property
    def side(self) -> int:
        """-1 where the whole interval lies below 1, 1 where above, 0 across it, without one, or of too few banks."""
        return self.ratio.side(1.0)

    @property
    def words(self) -> str:
        """Return what the search does at this budget, the ratio with its interval, and on how many banks."""
        counts = {"lower": self.lower, "its start kept": self.equal, "higher": self.higher}
        on = ", ".join(f"{name} on {count}" for name, count in counts.items() if count)
        does = "keeps its start on every bank" if self.ratio.banks == self.equal else SIDES[self.side]
        lacks = FEW_BANKS if self.ratio.banks < LEAST_BANKS else LITTLE_TEXT if self.ratio.little_text else ""
        does += f" ({lacks})" if lacks else ""
        return (
            f"{does} at {bits_title(self.budget)} bits ({shown(self.ratio.estimate, 3)} times the knapsack's KL, "
            f"{on} of {self.ratio.banks})"
        )


def standings(study: Study, method: str = OWN) -> list[Standing]:
    """Return how ``method`` stands on the source model at every budget that banks.csv has beside the knapsack."""
    banks, model, found = Banks(study), study.source, []
    for budget in banks.budgets(model) if model in banks.models else []:
        ratio = banks.ratio(model, budget, method)
        if ratio is None:
            continue
        sides, first = banks.sides(model, budget, method), banks.sums(model, budget, method).get(0)
        counts = (sides.count(side) for side in (-1, 0, 1))
        found.append(Standing(budget, ratio, *counts, has_record=_is_bank_0(study, method, budget, first)))
    return found


def _is_bank_0(study: Study, method: str, budget: float, sums: np.ndarray | None) -> bool:
    """Return whether the record's row of a method has the windows' sums of bank 0, [seeds, windows], seed for seed."""
    entry = study.one(study.source, method, budget)
    found = study.sums(entry, study.primary_text, "kl") if entry else None
    return sums is not None and found is not None and found[0].shape == sums.shape and np.allclose(found[0], sums)


def runs_over(found: list[Standing]) -> str:
    """Return over what the intervals run, in words."""
    return "; or ".join(dict.fromkeys(each.ratio.runs_over for each in found))


def bank_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``banks.ramp``: what the search does over banks, by budget; ``banks.runs``: over what intervals run.

    ``banks.knapsack`` and ``banks.knapsack.runs``: the knapsack's KL over that of ``UNIFORM`` at equal bytes; absent of
    too few banks or too little text.
    """
    if found := standings(study):
        yield "banks.ramp", listed([each.words for each in found])
        yield "banks.runs", runs_over(found)
    ratio = Banks(study).ratio(study.source, REFERENCE_BITS, BAR, UNIFORM)
    if ratio and ratio.banks >= LEAST_BANKS and not ratio.little_text:
        yield "banks.knapsack", shown(ratio.estimate, 3)
        yield "banks.knapsack.runs", ratio.runs_over
