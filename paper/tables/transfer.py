"""Table of zero-shot transfer: the source's policy on models that it was not trained on."""

from __future__ import annotations

from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, estimate_of, finite_or_none, labels


def transfer_table(study: Study) -> Table:
    """Return a line per source, target, budget, policy, seed and text."""
    frame = study.frame("transfer")
    lines = [] if frame is None else frame.to_dict("records")
    columns = (
        *labels("target", "policy"),
        Column("budget", "budget", "bits"),
        Column("seed", "seed", digits=0),
        *labels("text"),
        Column("gap", "gap closed"),
        *(Column(f"kl_{of}", f"KL {word}", "nats", digits=4) for of, word in KLS.items()),
        *labels("note"),
    )
    windows = sorted({int(count) for line in lines if (count := finite_or_none(line["n_windows"]))})
    seeds = {line["seed"] for line in lines}
    native = any(finite_or_none(line["kl_native"]) for line in lines)
    words = caption(
        "transfer",
        source=model_title(study.source),
        windows=" or ".join(map(str, windows)) or "an unrecorded number of",
        seeds="1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds",
        native=" Native: the same method searched on the target." if native else "",
    )
    rows = tuple(Row(_cells(line), str(line["target"])) for line in lines)
    return Table("transfer", columns=columns, rows=rows, **words).filled()


KLS = {"transfer": "transferred", "random": "random", "knapsack": "knapsack", "native": "native"}


def _cells(line: dict) -> dict:
    return {
        "target": model_title(line["target"]),
        "policy": method_title(line["policy"]),
        "budget": f"{line['budget_bits']:g}",
        "seed": int(line["seed"]),
        "text": "held-out" if line["text"] == "heldout" else line["text"],
        "gap": estimate_of(line, "gap_closed"),
        **{f"kl_{of}": finite_or_none(line[f"kl_{of}"]) for of in KLS},
        "note": line["note"],
    }
