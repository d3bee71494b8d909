"""Table of the noise floor: the float model against itself under other conditions."""

from __future__ import annotations

from paper.naming import model_title
from paper.noise import noise_lines, scientific
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from ramp.scoring.noise_variations import VARIATIONS


def noise_table(study: Study) -> Table:
    """Return a line per model and condition."""
    rows = [
        Row(
            {
                "model": model_title(line["model"]),
                "what": VARIATIONS[line["what"]].title,
                "dtype": line["dtype"],
                "kl": scientific(line["kl"]),
                "kl_max": scientific(line["kl_max"]),
                "ppl": line["ppl_ratio"] - 1,
                "windows": line["n_windows"],
            },
            line["model"],
        )
        for line in noise_lines(study)
    ]
    columns = (
        *labels("model"),
        Column("what", "what differs", align="left"),
        Column("dtype", "arithmetic", align="left"),
        Column("kl", "KL", "nats"),
        Column("kl_max", "KL", "largest window"),
        Column("ppl", "perplexity", "ratio − 1, 1e-6", digits=2, scale=1e6, signed=True),
        Column("windows", "windows", digits=0),
    )
    return Table("noise", columns=columns, rows=tuple(rows), **caption("noise")).filled()
