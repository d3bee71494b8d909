"""Zero-shot transfer: what the source's policy does on models that it never saw."""

from __future__ import annotations

from paper.intervals import Estimate
from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table


def _number(value: object) -> float | None:
    return None if value is None or value != value else float(value)  # type: ignore[arg-type]  # NaN is not itself


def transfer_table(study: Study) -> Table:
    """One line per source, target, budget, policy, seed and text."""
    frame = study.frame("transfer")
    lines = [] if frame is None else frame.to_dict("records")
    columns = (
        Column("target", "target", align="left"),
        Column("policy", "policy", align="left"),
        Column("budget", "budget", "bits"),
        Column("seed", "seed", digits=0),
        Column("text", "text", align="left"),
        Column("gap", "gap closed"),
        Column("transfer", "KL transferred", "nats", digits=4),
        Column("random", "KL random", "nats", digits=4),
        Column("knapsack", "KL knapsack", "nats", digits=4),
        Column("native", "KL native", "nats", digits=4),
        Column("note", "note", align="left"),
    )
    windows = sorted({int(line["n_windows"]) for line in lines if _number(line["n_windows"])})
    seeds = {line["seed"] for line in lines}
    native = any(_number(line["kl_native"]) for line in lines if "kl_native" in line)
    source = model_title(study.source)
    return Table(
        name="transfer",
        title=(
            f"Zero-shot transfer of what was learned on {source}: "
            f"{' or '.join(map(str, windows)) or 'an unrecorded number of'} paired windows per target, "
            f"{'1 seed' if len(seeds) == 1 else f'{len(seeds)} seeds'}, 95 % intervals."
        ),
        columns=columns,
        rows=tuple(Row(_cells(line), str(line["target"])) for line in lines),
        footnotes=(
            "Gap closed: (KL random - KL transferred) / (KL random - KL of the target's own Fisher knapsack); 0 is "
            "what random search finds on the target, 1 the knapsack that sees the target's gradients; what is "
            "transferred sees neither." + (" Native: the same method searched on the target." if native else ""),
        ),
        absent="No policy was transferred in this run.",
    ).filled()


def _cells(line: dict) -> dict:
    gap = _number(line["gap_closed"])
    return {
        "target": model_title(line["target"]),
        "policy": method_title(line["policy"]),
        "budget": f"{line['budget_bits']:g}",
        "seed": int(line["seed"]),
        "text": "held-out" if line["text"] == "heldout" else line["text"],
        "gap": None if gap is None else Estimate(gap, _number(line["ci_low"]), _number(line["ci_high"])),
        "transfer": _number(line["kl_transfer"]),
        "random": _number(line["kl_random"]),
        "knapsack": _number(line["kl_knapsack"]),
        "native": _number(line["kl_native"]),
        "note": line["note"],
    }
