"""Digests of two runs of one study side by side: the first stage at which they part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ramp.records.intermediate_digests import STAGES
from ramp.records.study_digests import StudyDigests


@dataclass(frozen=True)
class StageParting:
    """The files of one stage in both runs."""

    stage: str
    equal: int
    different: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True)
class Parting:
    """All stages of one study in both runs."""

    study: str
    stages: tuple[StageParting, ...]  # in pipeline order
    otherwise: tuple[str, ...] = ()  # configuration, arithmetic and versions that differ, in words

    @property
    def first(self) -> StageParting | None:
        """The first stage with a file that differs; None where all files of both runs are equal."""
        return next((each for each in self.stages if each.different), None)

    @property
    def same(self) -> bool:
        """Return whether both runs left the same files with the same content."""
        return not any(each.different or each.only_a or each.only_b for each in self.stages)

    @property
    def equal(self) -> int:
        """Number of equal files."""
        return sum(each.equal for each in self.stages)


def parting(study: str, a: StudyDigests, b: StudyDigests) -> Parting:
    """Return the files of one study in two runs, stage by stage."""
    sides = [{each.stage: each.files for each in side.stages} for side in (a, b)]
    known = [stage.name for stage in STAGES]
    names = sorted({*sides[0], *sides[1]}, key=lambda name: (known.index(name) if name in known else len(known), name))
    stages = []
    for name in names:
        left, right = (side.get(name, {}) for side in sides)
        both = sorted(set(left) & set(right))
        different = tuple(file for file in both if left[file] != right[file])
        only = [tuple(sorted(set(mine) - set(other))) for mine, other in ((left, right), (right, left))]
        stages.append(StageParting(name, len(both) - len(different), different, only[0], only[1]))
    return Parting(study, tuple(stages), tuple(_otherwise(a, b)))


def _otherwise(a: StudyDigests, b: StudyDigests) -> Iterator[str]:
    """Yield what of configuration, arithmetic and software differs."""
    if a.config_hash and b.config_hash and a.config_hash != b.config_hash:
        yield f"configuration {a.config_hash} and {b.config_hash}"
    if a.dtype != b.dtype:
        yield f"arithmetic {', '.join(a.dtype)} and {', '.join(b.dtype)}"
    for name in sorted({*a.versions, *b.versions}):
        pair = [side.versions.get(name, "not recorded") for side in (a, b)]
        if pair[0] != pair[1]:
            yield f"{name} {pair[0]} and {pair[1]}"
