"""Table of where two machines part: each stage again with other instruction sets and threads."""

from __future__ import annotations

from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, finite_or_none, labels
from ramp.records.schema import STABILITY_ORDER

SCORED = ("search", "rows", "evaluation")
"""Stages that have a KL."""

PLAIN_REPRODUCIBLE = "reproducible"
"""The line that holds reproducible arithmetic beside the fast one."""

HEADS = {
    "calibration": "calib.", "second moments": "moments", "sensitivity": "sens.", "reference": "ref.",
    "evaluation": "eval.",
}  # fmt: skip
"""Short heads of stages, so that all stand beside each other."""


def stability_table(study: Study) -> Table:
    """Return a line per variation, with a column per stage in the order of the pipeline."""
    frame = study.frame("stability")
    if frame is None or frame.empty:
        return Table("stability", columns=(), rows=(), **caption("stability", models=""))
    # what differs nowhere has no column: all stages stand beside each other
    several = {name: frame[name].nunique() > 1 for name in ("model", "inputs")}
    rows = []
    for key, lines in frame.groupby(["model", "inputs", "baseline", "varied"], sort=True):
        model, inputs, baseline, varied = key
        stages = lines.set_index("stage")
        cells = {
            "model": model_title(model) if several["model"] else "",
            "inputs": inputs if several["inputs"] else "",
            "varied": "reproducible instead of fast" if varied == PLAIN_REPRODUCIBLE else varied,
            **{stage: finite_or_none(stages["codes_changed"].get(stage)) for stage in STABILITY_ORDER},
            **{f"KL of {stage}": finite_or_none(stages["kl_change"].get(stage)) for stage in SCORED},
        }
        rows.append(Row(cells, f"{model} {inputs} {baseline}"))
    columns = (
        *labels("model", "inputs", "varied"),
        *(Column(stage, HEADS.get(stage, stage), "%", digits=1, scale=100) for stage in STABILITY_ORDER),
        *(
            Column(f"KL of {stage}", "KL", HEADS.get(stage, stage), digits=2, scale=100, signed=True)
            for stage in SCORED
        ),
    )
    models = "" if several["model"] else f" ({model_title(frame['model'].iloc[0])})"
    return Table("stability", columns=columns, rows=tuple(rows), **caption("stability", models=models)).filled()
