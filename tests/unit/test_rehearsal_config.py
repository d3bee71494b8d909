"""config/rehearsal.yaml, laid over config/paper.yaml, takes from the paper's study and adds nothing to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.plans import study_of, validate

PLACES = {"device", "results"}


def is_less(before: Any, after: Any) -> bool:
    """Return whether a value is a smaller number or a part of a list; None, no limit, is more than any."""
    if isinstance(after, list):
        return before is None or set(after) < set(before)
    return isinstance(after, int) and not isinstance(after, bool) and (before is None or after < before)


def grown(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Keys where ``after`` is neither ``before`` nor less of it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in after:
            yield from grown(before.get(key), after[key], f"{path}.{key}".lstrip("."))
    elif before != after and path not in PLACES and not is_less(before, after):
        yield f"{path}: {before} -> {after}"


def test_only_device_results_and_sizes_change() -> None:
    """Of the whole configuration with its defaults; every model, method and budget stays."""
    paper, rehearsal = (validate(values).model_dump() for values in map(study_of, ("paper.yaml", "rehearsal.yaml")))
    assert list(grown(paper, rehearsal)) == []
    kept = ["source", "targets", "methods", "uniform_bits", "budgets", "widths", "folds", "transfer", "track", "dtype"]
    assert {key: rehearsal[key] for key in kept} == {key: paper[key] for key in kept}
    assert rehearsal["halo"]["methods"] == paper["halo"]["methods"]


def test_an_overlay_that_adds_is_noticed() -> None:
    paper = validate(study_of("paper.yaml")).model_dump()
    for change in ({"dtype": "float32"}, {"calibration": {"tokens": 10**6}}, {"methods": ["rtn", "gptq", "ppo"]}):
        assert len(list(grown(paper, change))) == 1
