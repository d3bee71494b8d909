"""Every row of the study as a sheet of the results page: size, KL, perplexity, and KL beside the uniform row."""

from __future__ import annotations

from paper import style
from paper.comparisons import Pair, pair
from paper.evidence import shortages
from paper.figures.pareto import reference
from paper.naming import STATIC_MIXES, bits_title, method_title, model_title, text_title
from paper.page.origin import Origin
from paper.page.sheet import Cell, Column, Line, Sheet, beside, cell
from paper.study import Entry, Study
from ramp.study.row_names import GGML, Row

PACKED = "packed linears"
"""Accounting of rows on the study's own grid: the only one shown when the page opens."""

ACCOUNTINGS = {"ggml": "types of GGUF files", "package": "grid of another package", "released": "released file"}
"""Accounting by grid, of the rows that are not packed by this suite."""


def columns(study: Study) -> tuple[Column, ...]:
    """Return the columns of the sheet."""
    text = text_title(study.primary_text)
    return (
        Column("model", "model"),
        Column("method", "method"),
        Column(
            "bits", "budget (bits)", "number", None, "a budget of b bits: the bytes of the uniform b-bit row's linears"
        ),
        Column("linear", "linears (MB)", "number", 3, "bytes of codes, scales and zero-points; 1 MB = 1,000,000 bytes"),
        Column("file", "file (MB)", "number", 3, "bytes of the whole file, embedding and head included"),
        Column("kl", "KL", "estimate", 4, f"nats per token to the float model on {text}, 95 % interval over windows"),
        Column("ratio", "KL over uniform 4 bits", "estimate", 3, "paired on the same windows; below 1: less KL"),
        Column("reading", "KL beside uniform", help="where that interval lies: it says nothing of other measures"),
        Column(
            "power",
            "detectable (%)",
            "number",
            1,
            "smallest true KL difference to it, in % of its KL, that these windows "
            "and seeds would have shown four times of five",
        ),
        Column("ppl", "perplexity", "estimate", 3, f"on {text}, 95 % interval over windows"),
        Column("seeds", "seeds", "number", 0, "seeds of the search; intervals run over them as well"),
        Column("accounting", "accounting", help="what the bytes count"),
        Column("track", "embedding, head", help="how they are stored"),
        Column("measured", "measured on"),
    )


def rows_sheet(study: Study, origin: Origin) -> Sheet:
    """Return all rows, those of one method at one budget together."""
    looks = style.distinct(list(dict.fromkeys(entry.method for entry in study.entries)))
    references = {model: reference(study, model) for model in study.models}
    lines, evidence = [], not shortages(study)
    for entry in study.entries:
        rival = references[entry.model]
        colour, marker = looks[entry.method]
        lines.append(Line(_cells(study, entry, rival, evidence), list(entry.records.index),
                          (colour, marker, method_title(entry.method)), _behind(entry, rival, origin)))  # fmt: skip
    note = (
        "A row is a method at a budget. Rows of one model come from one bank (one draw of calibration text and of "
        "rounding), and small differences move with it. KL is compared on the same windows with a uniform 4-bit row of "
        "the model, which the button behind each row names."
    )
    return Sheet("records", "Rows", note, columns(study), lines, ("model", "method", "accounting", "reading"),
                 {"model": model_title(study.source), "accounting": PACKED})  # fmt: skip


def _cells(study: Study, entry: Entry, rival: Entry | None, evidence: bool) -> dict[str, Cell]:
    text = study.primary_text
    compared = pair(study, entry, rival, text) if rival and entry.is_quantized else None
    ratio = cell(compared.kl_ratio) if compared and entry is not rival else None
    linear, whole = entry.mean("bytes_linear"), entry.mean("bytes_file")
    return {
        "model": model_title(entry.model),
        "method": method_title(entry.method),
        "bits": None if entry.method in STATIC_MIXES else entry.budget_bits,
        "linear": linear / 1e6 if linear else None,
        "file": whole / 1e6 if whole else None,
        "kl": cell(study.measured(entry, text, "kl")),
        "ratio": ratio,
        "reading": beside(ratio, 1.0, evidence),
        "power": _power(study, compared),
        "ppl": cell(study.measured(entry, text, "ppl")),
        "seeds": len(entry.records),
        "accounting": _accounting(entry),
        "track": entry.track,
        "measured": "not run" if entry.not_run else study.limits([entry], text),
    }


def _power(study: Study, found: Pair | None) -> float | None:
    """Return the smallest KL difference that would have been seen, in % of the rival's KL."""
    rival = study.measured(found.rival, found.text, "kl") if found else None
    return 100 * found.detectable / rival.value if found and found.detectable and rival and rival.value else None


def _accounting(entry: Entry) -> str:
    if entry.method == "float":
        return "float, 16 bits a weight"
    if entry.restored:
        return f"{PACKED}, embedding and head stored otherwise"
    if entry.is_external and entry.grid == "affine":
        return "another package, packed as ours"
    return ACCOUNTINGS.get(entry.grid, PACKED)


def _behind(entry: Entry, rival: Entry | None, origin: Origin) -> dict[str, str]:
    ending = GGML if entry.grid == "ggml" else entry.track if entry.restored else ""
    seeds = [int(seed) for seed in entry.records["seed"]]
    names = [Row(entry.model, entry.method, bits_title(entry.budget_bits), seed, ending).name for seed in seeds]
    found = {
        "row": ", ".join(f"{entry.model}/{name}" for name in names),
        "command": origin.of_row(f"metrics/{entry.model}/{names[0]}.json"),
        "compared with": rival.title if rival and entry is not rival and entry.is_quantized else "",
        "note": entry.note,
    }
    for column in ("fold", "commit", "hardware", "versions", "config_hash"):
        if column in entry.records:
            found[column] = ", ".join(dict.fromkeys(str(value) for value in entry.records[column] if str(value)))
    return {key: value for key, value in found.items() if value}
