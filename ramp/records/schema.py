"""Schema of the records: each table with its columns, their dtype, unit and meaning. Data only.

The record key is (study, model, method, grid, stage, budget_bits, group_size, fold, seed). ``ramp.records.table``
reads, writes and checks the tables; those of the league are in ``ramp.records.schema_league``.
"""

from __future__ import annotations

from ramp.records.column_types import INTERVAL, MODEL, SUMS, Column, Table
from ramp.records.column_types import Column as _c  # short, in tables of columns
from ramp.records.schema_league import LEAGUE_TABLES

VERDICTS = ("replicated", "partly", "not replicated", "inconclusive", "not tested")
"""Verdicts on a claim: "inconclusive" where the interval holds the limit, "not tested" where the records lack what the
claim needs."""

KEY = (
    Column("study", "str", "study of the configuration: embedded, smoke, paper ...", required=True),
    MODEL,
    Column("method", "str", "float, released, rtn, gptq, awq, knapsack, ramp ...", required=True),
    Column("grid", "str", "float, released, affine, ggml or package (a package's own)", required=True),
    Column(
        "stage",
        "str",
        "float, bank (assembled from the bank), final, or final_{track}: the same in another track",
        required=True,
    ),
    Column("budget_bits", "float", "budget, as the uniform width of the same bytes_linear", "bits per weight", True),
    Column("group_size", "int", "group size asked for; 0 where there is none", "weights", True),
    Column("fold", "str", "fold of the row: none, awq, smoothquant", required=True),
    Column("seed", "int", "seed of the row", required=True),
)
"""The record key: what names one row of results."""

KEY_NAMES = tuple(column.name for column in KEY)


_RECORDS = (
    *KEY,
    _c(
        "kind",
        "str",
        "float, released, uniform, package (another's), proxy (no search), best, policy, not run",
    ),
    _c("track", "str", "how embedding and head are stored: q8_0, fp16, or the released file's own"),
    _c("bytes_file", "int", "stat of the file of this row: the only size compared between methods", "bytes"),
    _c("bytes_linear", "int", "packed linears: codes, scales, zeros", "bytes"),
    _c("bytes_embedding", "int", "token embedding", "bytes"),
    _c("bytes_head", "int", "output head; 0 where it is tied to the embedding", "bytes"),
    _c("bytes_other", "int", "norms, biases, file header", "bytes"),
    _c("bytes_native", "int", "file of the method's own package, where it has one", "bytes"),
    _c("bits_nominal", "float", "mean payload width of the linears, weighted by parameters", "bits per weight"),
    _c("bits_nominal_unweighted", "float", "mean payload width over linears", "bits per weight"),
    _c("bpw_linear", "float", "8 bytes_linear / weights of the linears: overhead inside", "bits per weight"),
    _c("bpw_file", "float", "8 bytes_file / all parameters", "bits per weight"),
    _c("ppl_{text}", "float", "perplexity, exp(sum nll / sum tokens)"),
    _c("ppl_low_{text}", "float", "its interval over windows, 2.5 % end of the bootstrap"),
    _c("ppl_high_{text}", "float", "97.5 % end"),
    _c("kl_{text}", "float", "mean KL(float model || this row)", "nats per token"),
    _c("kl_low_{text}", "float", "2.5 % end of the bootstrap", "nats per token"),
    _c("kl_high_{text}", "float", "97.5 % end", "nats per token"),
    _c("n_windows_{text}", "int", "evaluated windows: the limit of these columns", "windows"),
    _c("length_{text}", "int", "window length; 2048 or the model's context", "tokens"),
    _c("acc_{task}", "float", "accuracy by lm-eval, zero-shot", "share"),
    _c("acc_norm_{task}", "float", "length-normalised accuracy by lm-eval; empty where the task has none", "share"),
    _c("acc_se_{task}", "float", "lm-eval's standard error of acc", "share"),
    _c("n_items_{task}", "int", "scored rows: the limit of these columns", "rows"),
    _c("search_evals", "int", "true evaluations on search text; 0 for uniform rows", "evaluations"),
    _c("search_tokens", "int", "forward tokens (backward = 2), sensitivities included", "tokens"),
    _c("search_wall_s", "float", "wall time of the search", "s"),
    _c("kl_start", "float", "KL of the warm start on search text", "nats per token"),
    _c("kl_search", "float", "KL of the reported allocation on search text", "nats per token"),
    _c("kl_policy", "float", "KL of the policy's greedy allocation on search text", "nats per token"),
    _c("kl_start_selection", "float", "KL of the warm start on selection text", "nats per token"),
    _c("kl_selection", "float", "KL of the reported allocation on selection text", "nats per token"),
    _c("projected", "bool", "the budget was enforced after the search"),
    _c("quantize_wall_s", "float", "wall time of the final quantization", "s"),
    _c("peak_rss_bytes", "int", "peak resident memory of the quantization", "bytes"),
    _c("peak_gpu_bytes", "int", "peak GPU memory of the quantization; empty without a GPU", "bytes"),
    _c("produced", "str", "simulated (de-quantized weights in torch), exported (a runtime's file), not run (see note)"),
    _c("note", "str", "text of the footnote below the table"),
    _c("commit", "str", "commit of this repository when the row was evaluated"),
    _c("versions", "str", "name=version of what scored the row, package:name=version of another's package and its own"),
    _c("hardware", "str", "processor and GPU"),
    _c("config_hash", "str", "sha256 of the study's configuration, 12 digits"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("records", "one row of results per method, model, budget and seed", _RECORDS, KEY_NAMES),
        Table(
            "windows",
            "per-window sums: every interval between methods is paired on these",
            (*KEY, _c("text", "str", "heldout, wikitext2 ...", required=True), *SUMS),
            (*KEY_NAMES, "text", "window"),
        ),
        Table(
            "items",
            "answers of the commonsense tasks, item by item",
            (
                *KEY,
                _c("task", "str", "task by lm-eval's name", required=True),
                _c("doc_id", "int", "row of the task's file", required=True),
                _c("correct", "bool", "the likeliest choice is the right one", required=True),
                _c("correct_norm", "bool", "the same, length-normalised; empty where the task has none"),
            ),
            (*KEY_NAMES, "task", "doc_id"),
        ),
        Table(
            "allocations",
            "width and bytes of every linear",
            (
                *KEY,
                _c("which", "str", "reported, policy (greedy policy) or start (warm start)", required=True),
                _c("linear", "str", "module path", required=True),
                _c("layer", "int", "decoder block, from 0", required=True),
                _c("role", "str", "q k v o gate up down", required=True),
                _c("bits", "int", "payload width; the nominal one of the ggml type", "bits"),
                _c("type", "str", "affine, the ggml type, or package (a grid of its own)", required=True),
                _c("bytes", "int", "packed size with scales and zeros", "bytes"),
            ),
            (*KEY_NAMES, "which", "linear"),
        ),
        Table(
            "episodes",
            "allocations that a search evaluated, in order",
            (
                *KEY,
                _c("episode", "int", "from 0; the warm start is the first where there is one", required=True),
                _c("evals", "int", "evaluations on search text so far", "evaluations"),
                _c("tokens", "int", "forward tokens so far", "tokens"),
                _c("proposer", "str", "origin of the allocation: start, actor, critic, random ..."),
                _c("kl", "float", "search KL of the episode's allocation; empty where not finite", "nats per token"),
                _c("ppl", "float", "perplexity on search text"),
                _c("bytes", "int", "bytes_linear of the episode's allocation", "bytes"),
                _c("feasible", "bool", "whether it meets the budget"),
                _c("best", "float", "search loss of the best feasible allocation so far", "nats per token"),
                _c("reward_quality", "float", "-k_q max(0, quality loss)"),
                _c("reward_saving", "float", "k_b max(0, 1 - bytes / budget)"),
                _c("reward_overshoot", "float", "-k_o max(0, bytes / budget - 1)"),
                _c("reward_cliff", "float", "-k_c where bytes exceed the budget"),
                _c("reward_total", "float", "return of the episode: the sum of the four"),
                _c("alpha", "float", "temperature of the soft actor-critic"),
                _c("entropy", "float", "mean entropy of the policy", "nats"),
                _c("critic_loss", "float", "loss of the critics after the episode's updates"),
                _c("actor_loss", "float", "loss of the actor"),
            ),
            (*KEY_NAMES, "episode"),
        ),
        Table(
            "activations",
            "quantiles over channels of the activations that a linear reads",
            (
                MODEL,
                _c("fold", "str", "none is before folding, the others after", required=True),
                _c("linear", "str", "module path", required=True),
                _c("layer", "int", "decoder block, from 0", required=True),
                _c("role", "str", "q k v o gate up down", required=True),
                _c("channel_quantile", "float", "quantile over input channels, 0 to 1", required=True),
                _c("absmax", "float", "that quantile of the channels' max|x|"),
                _c("absmean", "float", "that quantile of the channels' mean|x|"),
            ),
            ("model", "fold", "linear", "channel_quantile"),
        ),
        Table(
            "benchmarks",
            "ours and a reference in one run: ratios, never absolute times",
            (
                _c("benchmark", "str", "what is measured, and against what", required=True),
                _c("ours", "float", "our measure, in unit"),
                _c("reference", "float", "the reference's measure, in unit, of the same run"),
                _c("ratio", "float", "ours / reference"),
                _c("unit", "str", "processor s, bytes, entries/min ..."),
                _c("note", "str", "text of the footnote below the table, e.g. that a time is extrapolated"),
                _c("command", "str", "how to measure it again"),
            ),
            ("benchmark",),
        ),
        Table(
            "parity",
            "our quantizers against the original packages",
            (
                _c("method", "str", "gptq, awq ...", required=True),
                _c("reference", "str", "package and version", required=True),
                MODEL,
                _c("bits", "int", "width", "bits", True),
                _c("group_size", "int", "group size asked for", "weights", True),
                _c("symmetric", "bool", "a grid with its zero-point in the middle", required=True),
                _c("settings", "str", "equal, or what was set otherwise to find a cause", required=True),
                _c("kl_ours", "float", "KL of our row, held-out windows", "nats per token"),
                _c("kl_reference", "float", "KL of the package's row", "nats per token"),
                _c("ratio", "float", "kl_ours / kl_reference"),
                _c("error_measure", "str", "linears (sum of tr(dW H dW^T)) or blocks (sum of squared output errors)"),
                _c("error_ours", "float", "reconstruction error, of float inputs", "squared output per token"),
                _c("error_reference", "float", "that of the package", "squared output per token"),
                _c("error_ratio", "float", "error_ours / error_reference"),
                _c("note", "str", "why the package's row is missing, or what of it a reader must know"),
                _c("command", "str", "how to measure it again"),
            ),
            ("method", "reference", "model", "bits", "group_size", "symmetric", "settings"),
        ),
        *LEAGUE_TABLES,
        Table(
            "transfer",
            "a policy trained on one model and used, untouched, on another",
            (
                _c("source", "str", "model that trained the policy", required=True),
                _c("target", "str", "model that it allocates", required=True),
                _c("budget_bits", "float", "budget on the target", "bits per weight", True),
                _c("policy", "str", "method that trained the policy", required=True),
                _c("seed", "int", "seed of the policy", required=True),
                _c("text", "str", "evaluated text", required=True),
                _c("gap_closed", "float", "(kl_random - kl_transfer) / (kl_random - kl_knapsack), paired over windows"),
                *INTERVAL,
                _c("kl_transfer", "float", "KL of the transferred row", "nats per token"),
                _c("kl_random", "float", "KL of the target's own random search: 0 of the gap", "nats per token"),
                _c("kl_knapsack", "float", "KL of the target's own Fisher knapsack: 1 of the gap", "nats per token"),
                _c("kl_native", "float", "KL of the same method searched on the target", "nats per token"),
                _c("n_windows", "int", "paired windows", "windows"),
                _c("note", "str", "why a number is missing"),
            ),
            ("source", "target", "budget_bits", "policy", "seed", "text"),
        ),
        Table(
            "halo",
            "checks of exported GGUF files",
            (
                _c("file", "str", "file under R/halo", required=True),
                _c("check", "str", "what was checked", required=True),
                _c("value", "float", "what was measured"),
                _c("limit", "float", "what it may be at most"),
                _c("ok", "bool", "whether it held", required=True),
            ),
            ("file", "check"),
        ),
        Table(
            "accidents",
            "faults injected on purpose, and what was lost",
            (
                _c("stage", "str", "stage that was hit", required=True),
                _c("fault", "str", "what was done to it", required=True),
                _c("injected", "int", "how often", required=True),
                _c("survived", "int", "how often the run finished right", required=True),
                _c("lost", "str", "what had to be done again"),
            ),
            ("stage", "fault"),
        ),
    )
}

CLAIM_FIELDS: dict[str, str] = {
    "id": "C1 ... C11, and C10b",
    "verdict": "one of VERDICTS",
    "scale": "what it was tested on",
    "measure": "what was measured, in words",
    "value": "the measure, a number or null",
    "margin": "[low, high], the interval of the value, or null",
    "rows": "records that it rests on: list of strings model/method-b{budget}-s{seed}",
}
"""Fields of an entry of claims.json; others are refused, so that prose does not grow in the records."""
