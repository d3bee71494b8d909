"""The tables of the league, of the exact optimum and of the folds' ablation. Data only.

``ramp.records.collect_league`` and ``ramp.records.collect_folding`` write them.
"""

from __future__ import annotations

from ramp.records.column_types import INTERVAL, MODEL, SUMS, Table
from ramp.records.column_types import Column as _c  # short, in tables of columns

_RUN = (
    MODEL,
    _c("bank", "str", "digest of bank and held-out text, or a name: another's rows compare with none", required=True),
    _c("grid", "str", "affine or ggml", required=True),
    _c("budget_bits", "float", "budget", "bits per weight", True),
    _c("run_evals", "int", "evaluations that the whole run was allowed; a row is read from it", "evaluations", True),
    _c("allocator", "str", "method, or a named variant of one", required=True),
    _c("seed", "int", "seed", required=True),
)
"""Columns that name one run of the league."""

RUN_NAMES = tuple(column.name for column in _RUN)

_LEAGUE = Table(
    "league",
    "allocators at equal cost on one error bank: the incumbent of every run at its checkpoints",
    (
        *_RUN,
        _c("evals", "int", "checkpoint: evaluations allowed up to here", "evaluations", True),
        _c("method", "str", "the method behind the allocator: another name where it is a variant", required=True),
        _c("title", "str", "what tables call a variant"),
        _c("eval_tokens", "int", "search text of one evaluation", "tokens"),
        _c("spent", "int", "evaluations on search text up to here; fewer where the method had finished", "evaluations"),
        _c("tokens", "int", "forward tokens up to here (backward = 2), sensitivities and selection included", "tokens"),
        _c("kl_start", "float", "KL of the warm start on search text; empty where there is none", "nats per token"),
        _c("kl_start_held", "float", "KL of the warm start on held-out text", "nats per token"),
        _c("kl_search", "float", "KL of the incumbent on search text", "nats per token"),
        _c("kl_selection", "float", "KL of the incumbent on selection text", "nats per token"),
        _c("kl_held", "float", "KL of the incumbent on held-out text; empty where there is none", "nats per token"),
        *INTERVAL,
        _c("bytes_linear", "int", "packed linears of the incumbent", "bytes"),
        _c("wall_s", "float", "wall time of the search up to here", "s"),
        _c(
            "rtn_cost",
            "float",
            "cost of uniform RTN to a model trained for the league, exp(KL) - 1: it accepts the model",
        ),
        _c("rtn_cost_text", "float", "the same on selection text, ppl / ppl_float - 1: for information"),
        _c("planned", "int", "runs that the league's grids have in all; the table may hold fewer", "runs"),
        _c("note", "str", "why there is no incumbent, or what it is"),
    ),
    (*RUN_NAMES, "evals"),
)

_WINDOWS = Table(
    "league_windows",
    "per-window sums of the league's incumbents on held-out text: differences between allocators are paired on these",
    (
        *_RUN,
        _c("evals", "int", "checkpoint", "evaluations", True),
        *SUMS,
    ),
    (*RUN_NAMES, "evals", "window"),
)

_CURVES = Table(
    "league_curves",
    "anytime curves: the best feasible allocation on search text so far, whenever it changes, thinned",
    (
        *_RUN,
        _c("evals", "int", "evaluations on search text so far", "evaluations", True),
        _c("tokens", "int", "forward tokens so far, sensitivities included", "tokens"),
        _c("is_start", "bool", "this is the run's warm start", required=True),
        _c("kl_search", "float", "its KL on search text", "nats per token"),
        _c("kl_held", "float", "its KL on held-out text", "nats per token"),
    ),
    (*RUN_NAMES, "evals"),
)

_PROBLEM = (
    MODEL,
    _c("units", "str", "what is allocated: halves-8 (attention or MLP of a block), linears-8", required=True),
)

_OPTIMUM = Table(
    "optimum",
    "distance from the exact optimum on problems small enough to enumerate; every KL is on the enumerated text",
    (
        *_PROBLEM,
        _c("budget_bits", "float", "budget over the units", "bits per weight", True),
        _c("allocator", "str", "method", required=True),
        _c("evals", "int", "evaluations allowed", "evaluations", True),
        _c("seed", "int", "seed", required=True),
        _c("title", "str", "what tables call the allocator"),
        _c("spent", "int", "evaluations spent", "evaluations"),
        _c("kl", "float", "KL reached; empty where nothing within the budget was found", "nats per token"),
        _c("kl_optimum", "float", "KL of the optimum", "nats per token"),
        _c("gap", "float", "kl - kl_optimum", "nats per token"),
        _c("gap_share", "float", "gap / kl_optimum"),
        _c("better", "int", "allocations within the budget that are better than this one", "allocations"),
        _c("allocations", "int", "allocations within the budget, all enumerated", "allocations"),
        _c("note", "str", "what a reader must know"),
        _c("command", "str", "how the enumeration was made"),
    ),
    ("model", "units", "budget_bits", "allocator", "evals", "seed"),
)

_ADDITIVITY = Table(
    "additivity",
    "how additive the loss is: units quantized one at a time against all at once",
    (
        *_PROBLEM,
        _c("bits", "int", "width of every unit", "bits", True),
        _c("kl_sum", "float", "sum over units of the KL with that unit alone quantized", "nats per token"),
        _c("kl_joint", "float", "KL with all units at this width", "nats per token"),
        _c("ratio", "float", "kl_joint / kl_sum: above 1 errors reinforce each other"),
        _c("tokens", "int", "scored tokens of the enumerated text", "tokens"),
    ),
    ("model", "units", "bits"),
)

_FOLD_ROW = (
    MODEL,
    _c("method", "str", "quantizer or a variant of one; float is the folded float model", required=True),
    _c("bits", "int", "width of every linear; 16 for float", "bits", True),
    _c("group_size", "int", "group size asked for; 0 for float", "weights", True),
    _c("file", "str", "the fold file: awq_w3 where it was searched at the row's own width", required=True),
)
"""Columns that name one row of the ablation."""

FOLD_NAMES = tuple(column.name for column in _FOLD_ROW)

_FOLDING = Table(
    "folding",
    "uniform rows of one quantizer on the weights of one fold after the other: the ablation of Scale Folding",
    (
        *_FOLD_ROW,
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
    FOLD_NAMES,
)

_FOLD_WINDOWS = Table(
    "folding_windows",
    "per-window sums of the ablation's rows: folds are compared on these, paired",
    (*_FOLD_ROW, *SUMS),
    (*FOLD_NAMES, "window"),
)

LEAGUE_TABLES = (_LEAGUE, _WINDOWS, _CURVES, _OPTIMUM, _ADDITIVITY, _FOLDING, _FOLD_WINDOWS)
"""In the order in which they are read."""
