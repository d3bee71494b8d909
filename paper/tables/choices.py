"""Choices where the paper is silent: ours, each with the configuration key and the reason."""

from __future__ import annotations

from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels

CHOICES = (
    ("three of the eleven embedding members", "embedding", "share of the bytes left, share of parameters, previous "
     "width: what a step needs to know of the steps before it"),
    ("“weight mean”", "embedding", "mean of |W|; the mean of W is near zero everywhere"),
    ("normalising the embedding", "embedding", "fixed constants; min-max per model would not carry over"),
    ("what a budget bounds", "budgets", "bytes of codes, scales and zeros of the linears, as the uniform row of that "
     "width has them; nothing else"),
    ("group size, zero-points", "group_size", "groups along the input, integer zero-points: no artefact on a "
     "de-quantized checkpoint; 128 or its largest divisor of the row"),
    ("embedding and head", "track", "stored alike for every method of a table"),
    ("how the fold is chosen", "folds", "AWQ's search by output error, once per site: for all widths of mixed rows "
     "together, for uniform rows at their own width"),
    ("the final quantizer", "method file", "every row of ours is quantized again, block by block, with quantized "
     "predecessors, by one function"),
    ("reward weights, entropy target, schedule", "method parameters", "scaled so that returns spread by about 1; the "
     "target is a share of log(feasible actions), annealed; a share of 0.98 asks for an almost uniform policy"),
    ("quality in the reward of our variant", "method parameters", "mean KL to the float model; log perplexity in "
     "RAMP (paper)"),
    ("text", "assets", "calibration, search, selection and held-out text are disjoint by document; the paper is said "
     "to calibrate and test on WikiText-2"),
    ("which allocation is reported", "search", "chosen on selection text, neither search nor held-out text"),
    ("perplexity windows", "evaluation.length", "2,048 tokens or the model's context, spread over the text"),
    ("which part of ARC, acc or acc_norm", "tasks", "both parts; plain accuracy in the mean"),
    ("cost of a search", "–", "forward tokens, a backward pass counted twice, sensitivities included"),
    ("block types of the export", "halo", "3, 4, 5, 6 bits to Q3_K, Q4_K, Q5_K, Q6_K; where a row is no multiple of "
     "256, llama.cpp's own fallbacks"),
    ("intervals", "–", "95 % block bootstrap over windows, paired between rows"),
)  # fmt: skip
"""(what the paper leaves open, configuration key, our choice and its reason)"""


def choices_table() -> Table:
    """Return the list as a table."""
    columns = (
        Column("what", "left open", align="left", width="1fr"),
        *labels("key"),
        Column("choice", "our choice and why", align="left", width="2fr"),
    )
    rows = tuple(Row({"what": what, "key": key, "choice": choice}) for what, key, choice in CHOICES)
    return Table("choices", columns=columns, rows=rows, **caption("choices"))
