"""GGUF files of ours beside llama.cpp's mixes, as a sheet of the results page."""

from __future__ import annotations

from paper import style
from paper.evidence import shortages
from paper.gguf import MIX_LOOKS, file_title
from paper.naming import model_title
from paper.page.sheet import Cell, Column, Line, Sheet, beside, estimate
from paper.study import Study
from paper.tables.model import finite_or_none
from ramp.records.collect_gguf import WITHOUT_RIVAL

OUR_LOOK = (style.VERMILION, "X", "ours, at the bytes of a mix")
COLUMNS = (
    Column("model", "model"),
    Column("file", "file"),
    Column("scales", "scales"),
    Column("size", "file (MB)", "number", 2, "bytes of the whole GGUF file; 1 MB = 1,000,000 bytes"),
    Column("kl", "KL", "estimate", 4, "nats per token to the float model on held-out text, 95 % interval"),
    Column("rival", "beside the mix"),
    Column("ratio", "KL over the mix's", "estimate", 3, "paired on the same windows; below 1: less KL"),
    Column("smaller", "bytes less (%)", "number", 2, "how much smaller than the mix"),
    Column("reading", "KL beside the mix"),
    Column("ppl", "perplexity / float", "number", 4, "ratio of perplexities on the same text"),
)
NOTE = (
    "KL is to the float model on held-out text. Every file of ours is compared with the mix at whose bytes it was "
    "made. Of each model there is one bank, and small differences move with it."
)


def gguf_sheet(study: Study) -> Sheet | None:
    """Return files of ours beside llama.cpp's mixes: size, KL, and the ratio to the mix, paired on windows."""
    frame = study.frame("gguf")
    if frame is None:
        return None
    lines = frame.to_dict("records")
    matrix_of = {
        (each["model"], each["file"]): bool(each["matrix"]) for each in lines if each["rival"] == WITHOUT_RIVAL
    }
    found, evidence = [], not shortages(study)
    for place, line in enumerate(lines):
        mix = line["rival"] == WITHOUT_RIVAL
        ratio = None if mix else estimate(line, "kl_ratio", "ratio_low", "ratio_high")
        cells: dict[str, Cell] = {
            "model": model_title(str(line["model"])),
            "file": file_title(line),
            "scales": "tuned" if line["tuned"] else "as quantized",
            "size": int(line["bytes_file"]) / 1e6,
            "kl": estimate(line, "kl", "kl_low", "kl_high"),
            "rival": None if mix else _title(str(line["rival"]), matrix_of.get((line["model"], line["rival"]))),
            "ratio": ratio,
            "smaller": None if mix else 100 * (1 - int(line["bytes_file"]) / int(line["rival_bytes_file"])),
            "reading": beside(ratio, 1.0, evidence),
            "ppl": finite_or_none(line["ppl_ratio"]),
        }
        found.append(Line(cells, [place], MIX_LOOKS[bool(line["matrix"])] if mix else OUR_LOOK))
    title = "GGUF files beside llama.cpp's mixes"
    return Sheet("gguf", title, NOTE, COLUMNS, found, ("model", "scales", "reading"))


def _title(file: str, matrix: bool | None) -> str:
    known = "" if matrix is None else ", imatrix" if matrix else ", no matrix"
    return file.removesuffix(".gguf").removesuffix("-plain") + known
