"""Table of where two machines part: each stage again with other instruction sets and threads."""

from __future__ import annotations

from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, finite_or_none, labels
from ramp.records.schema import STABILITY_ORDER


def stability_table(study: Study) -> Table:
    """Return a line per stage and variation, in the order of the pipeline."""
    frame = study.frame("stability")
    lines = [] if frame is None else frame.to_dict("records")
    named = ("model", "inputs", "baseline", "varied")
    lines.sort(key=lambda line: (*(line[name] for name in named), STABILITY_ORDER.index(line["stage"])))
    rows = [
        Row(
            {
                "model": model_title(line["model"]),
                "inputs": line["inputs"],
                "varied": line["varied"],
                "baseline": line["baseline"],
                "stage": line["stage"],
                "changed": line["codes_changed"],
                "largest": line["largest_change"],
                "kl": finite_or_none(line["kl_change"]),
            },
            f"{line['model']} {line['inputs']} {line['varied']}",
        )
        for line in lines
    ]
    columns = (
        *labels("model", "inputs", "varied"),
        Column("baseline", "beside", align="left"),
        *labels("stage"),
        Column("changed", "codes that change", "%", digits=4, scale=100),
        Column("largest", "largest change", "%", digits=4, scale=100),
        Column("kl", "KL", "%", digits=3, scale=100, signed=True),
    )
    return Table("stability", columns=columns, rows=tuple(rows), **caption("stability")).filled()
