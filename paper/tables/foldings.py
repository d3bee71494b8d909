"""Tables of Scale Folding's ablation: every quantizer on every fold, paired with the same quantizer without one."""

from __future__ import annotations

from dataclasses import replace

from paper.foldings import Foldings
from paper.intervals import reading
from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, estimate_of, finite_or_none, labels


def foldings_table(study: Study) -> Table:
    """Return a line per model, width, quantizer and fold."""
    foldings = Foldings(study)
    rows, limits = [], set()
    for row in foldings.quantized():
        line, plain = row.line, foldings.plain(row)
        folded = plain is not None and plain is not row
        kl, ppl = row.against(plain) if plain is not None and folded else (None, None)
        alone = foldings.alone(row)
        limits.add(f"{int(line['n_windows'])} windows of {int(line['length']):,} tokens")
        rows.append(
            Row(
                {
                    "model": model_title(line["model"]),
                    "bits": str(line["bits"]),
                    "method": row.method_title,
                    "fold": row.fold_title,
                    "error": finite_or_none(line["error_ratio"]),
                    "alone": None if alone is None else f"{alone:.0e}",
                    "ppl": estimate_of(line, "ppl", "ppl_low", "ppl_high"),
                    "kl": estimate_of(line, "kl"),
                    "kl_ratio": kl,
                    "ppl_ratio": ppl,
                    "reading": reading(kl, 1.0),
                },
                f"{line['model']} {line['bits']} {line['method']}",
            )
        )
    columns = (
        *labels("model"),
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
    )
    words = caption("foldings", limits=" or ".join(sorted(limits)))
    return Table("foldings", columns=columns, rows=tuple(rows), **words).filled()


def foldings_ratios_table(study: Study) -> Table:
    """Return the same for a printed page: ratios, and the KL that they are ratios of."""
    table = foldings_table(study)
    notes = ("Output error: calibration text, with the fold over without; SmoothQuant searches nothing.",)
    return replace(table, name="foldings_ratios", footnotes=notes).only(
        "model", "bits", "method", "fold", "error", "kl", "kl_ratio", "ppl_ratio", "reading"
    )
