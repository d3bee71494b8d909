"""Scale Folding's ablation: every quantizer on every fold, paired with the same quantizer without one."""

from __future__ import annotations

from dataclasses import replace

from paper.foldings import Foldings
from paper.intervals import Estimate
from paper.league import reading
from paper.naming import model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table


def foldings_table(study: Study) -> Table:
    """One line per model, width, quantizer and fold."""
    foldings = Foldings(study)
    rows, limits = [], set()
    for row in foldings.quantized():
        line, plain = row.line, foldings.plain(row)
        folded = plain is not None and plain is not row
        kl, ppl = row.against(plain) if plain is not None and folded else (None, None)
        limits.add(f"{int(line['n_windows'])} windows of {int(line['length']):,} tokens")
        rows.append(
            Row(
                {
                    "model": model_title(line["model"]),
                    "bits": str(line["bits"]),
                    "method": row.method_title,
                    "fold": row.fold_title,
                    "error": _number(line["error_ratio"]),
                    "alone": _scientific(foldings.alone(row)),
                    "ppl": _estimate(line, "ppl", "ppl_low", "ppl_high"),
                    "kl": _estimate(line, "kl", "ci_low", "ci_high"),
                    "kl_ratio": kl,
                    "ppl_ratio": ppl,
                    "reading": reading(kl, 1.0),
                },
                f"{line['model']} {line['bits']} {line['method']}",
            )
        )
    return Table(
        name="foldings",
        title="Scale Folding varied and nothing else: uniform rows of one quantizer on the weights of one fold after "
        f"the other, and their paired ratios to the same quantizer without a fold ({' or '.join(sorted(limits))} of "
        "held-out text); below 1 the fold helps.",
        columns=(
            Column("model", "model", align="left"),
            Column("bits", "bits"),
            Column("method", "quantizer", align="left"),
            Column("fold", "fold", align="left", width="1fr"),
            Column("error", "output error", "ratio", digits=3),
            Column("alone", "fold alone", "KL, nats"),
            Column("ppl", "perplexity", digits=2),
            Column("kl", "KL", "nats", digits=4),
            Column("kl_ratio", "KL ratio", digits=3),
            Column("ppl_ratio", "perplexity ratio", digits=3),
            Column("reading", "fold is", align="left"),
        ),
        rows=tuple(rows),
        footnotes=(
            "Fold alone: KL of the float model with the fold in its weights and nothing quantized, in the float32 of "
            "all rows. Output error: of the linears behind the folded inputs at the searched widths, with the fold "
            "over without; SmoothQuant searches nothing. Inputs behind v and up are folded by AWQ's search alone, "
            "unless it says norms.",
        )
        if rows
        else (),
        absent="The folds' ablation is not in these records (snakemake fold_ablation).",
    ).filled()


def foldings_ratios_table(study: Study) -> Table:
    """The same for a printed page: ratios, and of what they are ratios."""
    table = foldings_table(study)
    notes = ("Output error: calibration text, with the fold over without; SmoothQuant searches nothing.",)
    return replace(table, name="foldings_ratios", footnotes=notes if table.rows else ()).only(
        "model", "bits", "method", "fold", "error", "kl", "kl_ratio", "ppl_ratio", "reading"
    )


def _number(value: object) -> float | None:
    found = float(value) if isinstance(value, int | float) else float("nan")
    return None if found != found else found


def _scientific(value: float | None) -> str | None:
    return None if value is None else f"{value:.0e}"


def _estimate(line: dict, *names: str) -> Estimate | None:
    value, low, high = (_number(line[name]) for name in names)
    return None if value is None else Estimate(value, low, high)
