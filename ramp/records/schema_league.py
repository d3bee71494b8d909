"""The tables of the league and of the exact optimum: ``ramp.records.collect_league`` writes them. Data only."""

from __future__ import annotations

from ramp.records.columns import INTERVAL, Table
from ramp.records.columns import column as _c

_RUN = (
    _c("model", "str", "short name", required=True),
    _c("bank", "str", "digest of bank and held-out text, or a name: another's rows compare with none", required=True),
    _c("grid", "str", "affine or ggml", required=True),
    _c("budget_bits", "float", "budget", "bits per weight", True),
    _c("run_evals", "int", "evaluations that the whole run was allowed; a row is read from it", "evaluations", True),
    _c("allocator", "str", "method, or a named variant of one", required=True),
    _c("seed", "int", "seed", required=True),
)
"""What names one run of the league."""

_RUN_NAMES = tuple(column.name for column in _RUN)

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
        _c("rtn_cost", "float", "what uniform RTN costs a model trained for the league, exp(KL) - 1 (judged)"),
        _c("rtn_cost_text", "float", "the same on selection text, ppl / ppl_float - 1 (told)"),
        _c("planned", "int", "runs that the league's grids have in all; the table may hold fewer", "runs"),
        _c("note", "str", "why there is no incumbent, or what it is"),
    ),
    (*_RUN_NAMES, "evals"),
)

_WINDOWS = Table(
    "league_windows",
    "per-window sums of the league's incumbents on held-out text: differences between allocators are paired on these",
    (
        *_RUN,
        _c("evals", "int", "checkpoint", "evaluations", True),
        _c("window", "int", "index of the window; the same tokens for all runs of a model", required=True),
        _c("tokens", "int", "predicted tokens: window length - 1", "tokens", True),
        _c("nll", "float", "sum of negative log-likelihoods", "nats"),
        _c("kl", "float", "sum of KL(float || incumbent)", "nats"),
    ),
    (*_RUN_NAMES, "evals", "window"),
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
    (*_RUN_NAMES, "evals"),
)

_PROBLEM = (
    _c("model", "str", "short name", required=True),
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

LEAGUE_TABLES = (_LEAGUE, _WINDOWS, _CURVES, _OPTIMUM, _ADDITIVITY)
"""In the order in which they are read."""
