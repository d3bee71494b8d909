"""Tables of numbers of other papers, marked as quoted: at the paper's scale alone, compared with nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence

from paper.tables.captions import Caption
from paper.tables.model import Cell, Column, Row, Table, labels

WIKITEXT = (
    # model, bits, FP16, RTN, GPTQ, GPTQ act-order, AWQ, OmniQuant, SqueezeLLM
    ("Llama-2-7B", "4, g128", 5.47, 5.73, 5.69, 5.63, 5.60, 5.58, 5.57),
    ("Llama-2-7B", "3, g128", 5.47, 6.66, 6.43, 6.42, 6.24, 6.03, 5.96),
    ("Llama-2-13B", "4, g128", 4.88, 4.98, 4.98, 4.99, 4.97, 4.95, 4.96),
    ("Llama-2-13B", "3, g128", 4.88, 5.52, 5.48, 5.41, 5.32, 5.28, 5.23),
)

QUIP_SHARP = (
    # model, FP16, QuIP# at 2 bits: 4,096-token windows
    ("Llama-2-7B", 5.116, 8.224),
    ("Llama-2-13B", 4.574, 6.058),
)

LLAMA_CPP = (
    # type, bits per weight, perplexity over that of FP16 (512-token protocol)
    ("Q3_K_S", 3.50, 1.072),
    ("Q3_K_M", 3.91, 1.042),
    ("Q4_K_S", 4.58, 1.015),
    ("Q4_K_M", 4.84, 1.0142),
    ("Q6_K", 6.56, 1.0024),
)

TASKS = (
    # model, FP16, RTN4, GPTQ4, AWQ4: mean accuracy of five commonsense tasks, %
    ("Llama-2-7B", 64.80, 64.52, 64.24, 64.54),
    ("Llama-2-13B", 67.80, 67.50, 67.27, 67.79),
    ("Mistral-7B-v0.1", 69.45, 68.75, 68.73, 68.98),
)


CAPTIONS = {
    "quoted": Caption(
        "Quoted, not measured here: WikiText-2 test perplexity in 2,048-token windows, as published.",
        (
            "Sources: FP16, RTN, GPTQ and AWQ from the AWQ paper (Lin et al.), OmniQuant from Shao et al., SqueezeLLM "
            "from Kim et al. OmniQuant's rows take 4.24 and 3.24 bits, SqueezeLLM's 4.27 and 3.24, the others have "
            "groups of 128.",
        ),
    ),
    "quoted_quip": Caption(
        "Quoted, not measured here: QuIP# at 2 bits, WikiText-2 perplexity in 4,096-token windows.",
        (
            "Source: docs/index.md of Cornell-RelaxML/quip-sharp at commit 79b752f. Longer windows give lower "
            "perplexities than those of the table above. Its paper (arXiv:2402.04396) has later numbers, also at 3 and "
            "4 bits, which are not quoted because no exact copy of its tables was at hand.",
        ),
    ),
    "quoted_ggml": Caption(
        "Quoted, not measured here: llama.cpp's static mixes on Llama-2-7B; its 512-token protocol, ratios only.",
        ("Source: the llama.cpp repository's documentation of its quantization tool.",),
    ),
    "quoted_tasks": Caption(
        "Quoted, not measured here: mean accuracy (%) of five commonsense tasks, and the share of FP16 kept.",
        (
            "Read in published tables; the share is arithmetic. On Llama-2 plain RTN keeps over 99.5 %, so a mean over "
            "tasks separates nothing unless answers are compared item by item.",
        ),
    ),
}


def quoted_tables() -> list[Table]:
    """Return all of them; a study of other models than these prints none."""
    titles = ("FP16", "RTN", "GPTQ", "act-order", "AWQ", "OmniQuant", "SqueezeLLM")
    wikitext = (*labels("model", "bits"), *(Column(title, title) for title in titles))
    quip = (*labels("model"), Column("fp16", "FP16", digits=3), Column("quip", "QuIP#, 2 bits", digits=3))
    ggml = (*labels("type"), Column("bpw", "bits per weight"), Column("ratio", "perplexity over FP16", digits=4))
    tasks = (*labels("model"), Column("fp16", "FP16"), *(Column(m, f"{m}, 4 bit") for m in ("RTN", "GPTQ", "AWQ")))
    kept = [
        (model, fp16, *(f"{value:.2f} ({100 * value / fp16:.2f} %)" for value in values))
        for model, fp16, *values in TASKS
    ]
    return [
        _table("quoted", wikitext, WIKITEXT, grouped=True),
        _table("quoted_quip", quip, QUIP_SHARP),
        _table("quoted_ggml", ggml, LLAMA_CPP),
        _table("quoted_tasks", tasks, kept),
    ]


def _table(name: str, columns: Sequence[Column], lines: Sequence[Sequence[Cell]], grouped: bool = False) -> Table:
    keys = [column.key for column in columns]
    rows = tuple(Row(dict(zip(keys, line, strict=True)), str(line[0]) if grouped else "") for line in lines)
    return Table(name, CAPTIONS[name].title, tuple(columns), rows=rows, footnotes=CAPTIONS[name].notes)
