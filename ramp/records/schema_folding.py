"""The tables of the folds' ablation: ``ramp.records.collect_folding`` writes them. Data only."""

from __future__ import annotations

from ramp.records.columns import INTERVAL, Table
from ramp.records.columns import column as _c

_ROW = (
    _c("model", "str", "short name", required=True),
    _c("method", "str", "quantizer or a variant of one; float is the folded float model", required=True),
    _c("bits", "int", "width of every linear; 16 for float", "bits", True),
    _c("group_size", "int", "group size asked for; 0 for float", "weights", True),
    _c("file", "str", "the fold file: awq_w3 where it was searched at the row's own width", required=True),
)
"""What names one row of the ablation."""

_NAMES = tuple(column.name for column in _ROW)

_FOLDING = Table(
    "folding",
    "uniform rows of one quantizer on the weights of one fold after the other: the ablation of Scale Folding",
    (
        *_ROW,
        _c("fold", "str", "the fold as the configuration calls it", required=True),
        _c("kind", "str", "none, smoothquant or awq", required=True),
        _c("alpha", "float", "SmoothQuant's migration strength"),
        _c("sites", "str", "inputs that are folded: attn_in o_in mlp_in down_in"),
        _c("title", "str", "what tables call a variant of a quantizer"),
        _c("error_ratio", "float", "output error with the fold over without, calibration text, geometric mean"),
        _c("ppl", "float", "perplexity on held-out text"),
        _c("ppl_low", "float", "2.5 % end of the block bootstrap"),
        _c("ppl_high", "float", "97.5 % end"),
        _c("kl", "float", "KL(float || row) on held-out text", "nats per token"),
        *INTERVAL,
        _c("n_windows", "int", "held-out windows", "windows"),
        _c("length", "int", "window length", "tokens"),
        _c("bytes_linear", "int", "packed linears", "bytes"),
        _c("bpw_linear", "float", "8 bytes_linear / weights of the linears", "bits per weight"),
        _c("dtype", "str", "arithmetic of the evaluation"),
        _c("wall_s", "float", "wall time of quantizing and scoring", "s"),
        _c("commit", "str", "commit of this repository"),
        _c("hardware", "str", "processor and GPU"),
    ),
    _NAMES,
)

_WINDOWS = Table(
    "folding_windows",
    "per-window sums of the ablation's rows: folds are compared on these, paired",
    (
        *_ROW,
        _c("window", "int", "index of the window; the same tokens for all rows of a model", required=True),
        _c("tokens", "int", "predicted tokens: window length - 1", "tokens", True),
        _c("nll", "float", "sum of negative log-likelihoods", "nats"),
        _c("kl", "float", "sum of KL(float || row)", "nats"),
    ),
    (*_NAMES, "window"),
)

FOLDING_TABLES = (_FOLDING, _WINDOWS)
"""In the order in which they are read."""
