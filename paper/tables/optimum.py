"""Tables of every allocator's distance from the exact optimum of a small problem, and of how additive its loss is."""

from __future__ import annotations

from typing import Any

from paper.naming import method_rank, method_title, model_title, variant_title
from paper.study import Study
from paper.tables.benchmarks import commands
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels


def units_title(units: str) -> str:
    """Return the allocated units in words."""
    kind, _, count = units.partition("-")
    return f"last {count} {'half-blocks' if kind == 'halves' else kind}"


def allocator_title(title: Any, allocator: str) -> str:
    """Return a variant's own title, else the method's."""
    return variant_title(title) if isinstance(title, str) and title else method_title(allocator)


def optimum_table(study: Study) -> Table:
    """Return a line per problem, budget, allocator and checkpoint; seeds together."""
    frame = study.frame("optimum")
    rows, lines = [], []
    if frame is not None:
        lines = frame.to_dict("records")
        for (model, units, bits), part in frame.groupby(["model", "units", "budget_bits"]):
            names = sorted(part["allocator"].unique(), key=method_rank)
            for name in names:
                own = part[part["allocator"] == name]
                # one that ends by itself has one row a seed, each after as many evaluations as it took
                cells = [own] if len(own) == own["seed"].nunique() else [cell for _, cell in own.groupby("evals")]
                for cell in cells:
                    rows.append(Row(_cells(model, units, bits, name, cell), f"{model} {units} {bits}"))
    columns = (
        *labels("model", "units"),
        Column("budget", "budget", "bits"),
        Column("allocator", "allocator", align="left", width="1fr"),
        Column("evals", "evals", "mean", digits=0),
        Column("seeds", "seeds"),
        Column("kl", "KL", "mean, nats", digits=5),
        Column("optimum", "least", "nats", digits=5),
        Column("gap", "gap", "mean, %", digits=2, scale=100),
        Column("worst", "gap", "worst, %", digits=2, scale=100),
        Column("hits", "found", align="left"),
        Column("better", "better", "mean", digits=1),
        Column("within", "of", digits=0),
    )
    return Table("optimum", columns=columns, rows=tuple(rows), aside=commands(lines), **caption("optimum")).filled()


def _cells(model: str, units: str, bits: float, name: str, cell: Any) -> dict[str, Any]:
    whole = cell["kl"].notna().all()
    gaps = cell["gap_share"].astype("float64")
    return {
        "model": model_title(model),
        "units": units_title(units),
        "budget": f"{bits:g}",
        "allocator": allocator_title(cell["title"].iloc[0], name),
        "evals": float(cell["evals"].mean()),
        "seeds": str(len(cell)),
        "kl": float(cell["kl"].mean()) if whole else None,
        "optimum": float(cell["kl_optimum"].iloc[0]),
        "gap": float(gaps.mean()) if whole else None,
        "worst": float(gaps.max()) if whole else None,
        "hits": f"{int((cell['gap'].astype('float64') <= 0).sum())} of {len(cell)}",
        "better": float(cell["better"].astype("float64").mean()) if whole else None,
        "within": int(cell["allocations"].iloc[0]),
    }


def additivity_table(study: Study) -> Table:
    """Return a line per problem and width."""
    frame = study.frame("additivity")
    columns = (
        *labels("model", "units"),
        Column("bits", "bits"),
        Column("kl_sum", "sum of single KLs", "nats", digits=5),
        Column("kl_joint", "joint KL", "nats", digits=5),
        Column("ratio", "joint / sum", digits=3),
        Column("tokens", "scored tokens", digits=0),
    )
    rows = []
    for line in [] if frame is None else frame.to_dict("records"):
        words = {"model": model_title(line["model"]), "units": units_title(line["units"]), "bits": str(line["bits"])}
        rows.append(Row({**line, **words}, f"{line['model']} {line['units']}"))
    return Table("additivity", columns=columns, rows=tuple(rows), **caption("additivity"))
