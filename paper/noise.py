"""The noise floor of KL as tables and text read it: the float model against itself under other conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paper.naming import model_title
from paper.study import Study
from ramp.scoring.noise_variations import VARIATIONS

Line = Mapping[str, Any]
"""One row of noise.csv."""


def noise_lines(study: Study) -> list[Line]:
    """Return the rows of noise.csv by model and in the order of ``VARIATIONS``; none where there is no such table."""
    frame = study.frame("noise")
    lines: list[Line] = [] if frame is None else frame.to_dict("records")
    order = {name: place for place, name in enumerate(VARIATIONS)}
    return sorted(lines, key=lambda line: (line["model"] != study.source, line["model"], order[line["what"]]))


def scientific(value: float) -> str:
    """Return a small number with two digits, such as 1.3e-07; 0 as it is."""
    return f"{value:.1e}" if value else "0"


def floor_of(study: Study, model: str) -> str | None:
    """Return one sentence on the largest KL of a model against itself; None where it was not measured."""
    lines = [line for line in noise_lines(study) if line["model"] == model]
    if not lines:
        return None
    worst = max(lines, key=lambda line: line["kl"])
    same = [line["kl"] for line in lines if line["dtype"] == lines[0]["dtype"]]
    found = f"Evaluated again, the float model has a KL of at most {scientific(max(same))} nats to itself in "
    found += str(lines[0]["dtype"])
    if worst["kl"] > max(same):
        found += f", and of {scientific(worst['kl'])} with {VARIATIONS[worst['what']].title}"
    return f"{found} (the noise floor)."


def noise_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``noise.floor.N``: a sentence for every model that was measured."""
    for place, model in enumerate(dict.fromkeys(line["model"] for line in noise_lines(study))):
        yield f"noise.floor.{place}", f"{model_title(model)}: {floor_of(study, model)}"
