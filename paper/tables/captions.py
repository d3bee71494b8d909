"""Captions: title, footnotes and the sentence that stands where there are no rows, of every table.

Braces are filled in by the table's own file (``paper/tables/{table}.py``), which computes its columns and rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_LEAGUE = "No league is in these records (snakemake league)."
NO_OPTIMUM = "No exact optimum is in these records (snakemake optimum)."


@dataclass(frozen=True)
class Caption:
    """Words of one table."""

    title: str
    notes: tuple[str, ...] = ()
    absent: str = "There are no rows for this table in the records."


CORRECTED = (
    "p: two-sided, of Student's t with the bootstrap's standard error (of a normal where rows have one seed), "
    "corrected for the number of lines (Holm). (alone): the reading does not hold after this correction, p is 0.05 or "
    "more."
)
"""What the last columns of tables of paired differences mean."""

POWER = (
    "Detectable: the smallest true KL difference that these windows and seeds would have shown four times of five "
    "(two-sided, 5 %, by the same error). Within noise: a larger one would likely have been seen."
)
"""What the column of power means."""

CAPTIONS = {
    "main": Caption(
        "{model}: sizes and quality of every row. {texts}; {seeds}; brackets are 95 % intervals over windows, "
        "and over seeds (by Student's t) where there are several.",
        (
            "MB = 1,000,000 bytes; file sizes are those of files on disk where no note says otherwise. KL is to the "
            "float model, per token.",
        ),
    ),
    "paired": Caption(
        "{model}: paired differences on the same windows ({limits}; {seeds}), with 95 % intervals of the paired block "
        "bootstrap.",
        (
            "Below 0 (KL) and below 1 (perplexity) favour the row on the left. Within noise: the interval of the KL "
            "difference holds 0, one comparison at a time. Identical: no window differs. Seeds, where there are "
            "several, widen the interval by Student's t.",
            CORRECTED,
        ),
        "No two rows of this model share evaluated windows in the records.",
    ),
    "headline_pairs": Caption(
        "{model}: rows against each other on the same windows ({limits}; {seeds}), with 95 % intervals of the paired "
        "block bootstrap.",
        (
            "Below 0 (KL) and below 1 (perplexity) favour the row on the left. Reading: where the interval of the KL "
            "difference lies; identical: no window differs. (alone): it does not hold after Holm's correction for "
            "all paired differences of the model, which the appendix lists.",
        ),
        "No two of these rows share evaluated windows in the records.",
    ),
    "tasks": Caption(
        "{model}: commonsense tasks by lm-evaluation-harness, zero-shot, {counts} rows per task; {seeds}.",
        (
            "Kept: mean accuracy over the tasks relative to the float model; items are resampled within each task and "
            "paired with the float model's answers (95 % interval).",
        ),
        "No row of this model was scored on the commonsense tasks in this run.",
    ),
    "ledger": Caption(
        "{model}: where the bytes of each file lie (means over seeds where there are several; {seeds}).",
        (
            "Sizes are those of files on disk, except the float row: what 16 bits per weight would take{packed}. "
            "Other: norms, biases, header and alignment. A head of 0 bytes is tied to the embedding.",
        ),
        "No row of the records states its bytes.",
    ),
    "controls": Caption(
        "{model}: the same bytes spent on widths (left) or on smaller groups (right); paired differences on {limits}; "
        "{seeds}; 95 % intervals of the paired block bootstrap.",
        (
            "Rows are paired where their linears differ by {near:g} % of bytes at most. Below 0 (KL) and below "
            "1 (perplexity) favour the mixed row. All share AWQ folds chosen at the study's own group size, but for "
            "plain GPTQ, which has none.",
            CORRECTED,
        ),
        "No mixed row of this model is as large as a uniform row with smaller groups in this run.",
    ),
    "claims": Caption(
        "The paper's claims and what this study ({study}; source model {model}, {limits}, {seeds}) says of them.",
        (
            "[A] abstract; [D] digests of the full text.",
            "Replicated: the whole 95 % interval lies on the claim's side of its limit; not replicated: wholly on the "
            "other side; inconclusive: across it, or none. Of several comparisons all must hold: with one that fails "
            "a claim is partly replicated if another holds, else not replicated; with none that fails and one across "
            "the limit it is inconclusive. Partly, too, where only a part of a claim was tried. An analogue on another "
            "model supports or weakens a claim; it is not a test of it.",
            "Intervals run over windows, search seeds and items of one bank, which is one draw of calibration text and "
            "rounding; over banks, or over linears, where the measure says so.",
        ),
        "The claims were not judged in this run: paper.claims writes claims.json.",
    ),
    "transfer": Caption(
        "Zero-shot transfer of what was learned on {source}: {windows} paired windows per target, {seeds}, 95 % "
        "intervals.",
        (
            "Gap closed: (KL random - KL transferred) / (KL random - KL of the target's own Fisher knapsack); 0 is "
            "what random search finds on the target, 1 the knapsack that sees the target's gradients; what is "
            "transferred sees neither.{native}",
        ),
        "No policy was transferred in this run.",
    ),
    "cost": Caption(
        "Cost of each search and its gain over its warm start ({seeds}; wall times are means over seeds, whatever else "
        "the machine did).",
        (
            "Forward tokens count a backward pass twice and include the Fisher sensitivities wherever a method uses "
            "them. Selection text chooses the final allocation and is neither search nor held-out text. Projected: "
            "the budget had to be enforced after the search.",
        ),
        "No row of the records spent anything on a search.",
    ),
    "league": Caption(
        "The league where its searches end: KL to the float model on held-out text of each allocator's incumbent, and "
        "its paired difference to the {bar}; below 0 the allocator is better.",
        (
            "Incumbent: best on selection text among the five best feasible allocations on search text so far and the "
            "start, by the same rule for all. KL of the bank's weights on held-out windows, which choose nothing; "
            "differences are paired on the same windows, seeds by Student's t. Tokens: forward tokens up to there "
            "(backward = 2), sensitivities and selection included. A method that needs no search is listed at every "
            "checkpoint with its tokens.",
        ),
        NO_LEAGUE,
    ),
    "banks": Caption(
        "Allocators over banks: KL of final rows to the float model on held-out text, and its ratio to the {bar} on "
        "the same bank at the same budget; below 1 the method is better. Brackets are 95 % intervals over {runs}.",
        (
            "A bank is one draw of calibration documents, their order and the windows of sensitivities, with folds, "
            "allocations and rows of its own. Banks are resampled, and windows, the same for all banks and both "
            "methods; the interval is Student's t times that standard error, with the degrees of freedom of so few "
            "banks and windows. A bank's search seeds are averaged: their scatter is part of that over banks, and what "
            "one seed does on every bank alike is not in it. A search that kept its start counts as 1. Within noise: "
            "the interval holds 1.",
            "Spread: standard deviation of the KL over banks, as a share of its mean, of each bank's own allocation; "
            "and of one allocation, that of bank 0, quantized on every bank: rounding and text alone.",
        ),
        "No rows over banks are in these records (snakemake banks --configfile config/banks.yaml).",
    ),
    "banks_league": Caption(
        "The league over banks: held-out KL of each allocator's incumbent over that of the {bar} on the same bank; "
        "below 1 the allocator is better. Brackets are 95 % intervals over {runs}.",
        ("Banks are draws of calibration text; incumbents have the weights of their bank. Intervals are Student's t.",),
        "No league on several draws of a bank is in these records (snakemake league, with draws among its models).",
    ),
    "league_summary": Caption(
        "Held-out KL of each allocator over that of the {bar} after so many evaluations, at the budgets at which all "
        "allocators of a model ran, summed where they are several; below 1 the allocator is better.",
        absent=NO_LEAGUE,
    ),
    "ablations": Caption(
        "Ablations: each variant changes the named switch alone. Paired difference of held-out KL to the unchanged "
        "method on the same bank, at the last checkpoint of both; below 0 the variant is better.",
        absent="No variant of a method is in these records (variants of the configuration, snakemake league).",
    ),
    "equal_quality": Caption(
        "Evaluations to equal quality: when each learner's best allocation within the budget first has the KL on "
        "search text that the {bar} has, and that {rival} ends with. Median over seeds, and their range.",
        (
            "Never: not within the evaluations allowed; no number stands in for it. By its start: the warm start, the "
            "knapsack itself, has that KL already. Read from curves thinned to log-spaced moments: upper bounds. "
            "Tokens: forward tokens up to there (backward = 2), sensitivities included, selection left out.",
        ),
        "No league with learners is in these records (snakemake league).",
    ),
    "optimum": Caption(
        "Distance from the exact optimum. Every allocation of the units was scored, everything before them is float; "
        "KLs are on the text of that enumeration, so this is about searching and not about generalising.",
        (
            "Gap: KL above the optimum's (least), as a share of it, over seeds. Better: allocations within the budget "
            "that have a lower KL.",
        ),
        NO_OPTIMUM,
    ),
    "additivity": Caption(
        "How additive the loss is: KLs of the units quantized one at a time, summed, beside the KL with all of them at "
        "that width. Above 1 errors reinforce each other.",
        absent=NO_OPTIMUM,
    ),
    "foldings": Caption(
        "Scale Folding varied and nothing else: uniform rows of one quantizer on the weights of one fold after the "
        "other, and their paired ratios to the same quantizer without a fold ({limits} of held-out text); below 1 the "
        "fold helps.",
        (
            "Fold alone: KL of the float model with the fold in its weights and nothing quantized, in the float32 of "
            "all rows. Output error: of the linears behind the folded inputs at the searched widths, with the fold "
            "over without; SmoothQuant searches nothing. Inputs behind v and up are folded by AWQ's search alone, "
            "unless it says norms.",
        ),
        "The folds' ablation is not in these records (snakemake fold_ablation).",
    ),
    "halo": Caption(
        "Checks of exported files in stock llama.cpp (CPU build): {halo} of HALO's files, {mixes} of files at the "
        "bytes of llama.cpp's mixes, {failed} failed.",
        (
            "Checked of a file: {names}. What differs or is missing is counted, and none may be. Perplexity in "
            "llama.cpp against transformers, on the same tokens.",
        ),
        "No GGUF file was exported in this run.",
    ),
    "tuning": Caption(
        "Scales tuned after quantizing: the float16 scales and the norms' gains trained by KL to the float model on "
        "calibration and training text, codes, zero-points and bytes unchanged. KL on held-out text before and after; "
        "below 1 tuning helps.",
        (
            "Intervals run over {runs}; those over banks are Student's t. These rows stand in no other table.",
            "Time is that of the tuning alone, on a machine that did other work too.",
        ),
        "No rows with tuned scales are in these records (snakemake tuning).",
    ),
    "tuning_pairs": Caption(
        "How much of mixed precision's gain is left when both are tuned alike: KL of a mixed row over that of the "
        "smallest uniform row of a method that is at least as large, before and after tuning, paired.",
        (
            "After / before: above 1 the mixed row gains less from tuning than the uniform one. Bytes: of the packed "
            "linears, mixed over uniform. Intervals run over {runs}.",
        ),
        "No mixed and uniform rows with tuned scales are in these records (snakemake tuning).",
    ),
    "stability": Caption(
        "Where two machines part: each stage again with other instruction sets and threads, the share of its codes "
        "that change, and the change of its KL, both in per cent{models}.",
        (
            "Each line is held beside a run with one thread, float32 and no limits, in fast arithmetic; the lines "
            "“reproducible, …” beside one in reproducible arithmetic, where nothing may change. Codes: of a bank or a "
            "row; of other stages the values (stability.csv has the largest change of one). Inputs are the study's own "
            "files of the stages before, so that a number shows what its stage adds.",
            "Limits of this machine stand in for another machine; no other processor is behind them.",
        ),
        "Where two machines part is not in these records (python -m benchmarks.stability).",
    ),
    "noise": Caption(
        "Noise floor: the float model on held-out text against its own reference, with one condition changed. A "
        "quantized row whose KL is no larger than these cannot be told from the float model.",
        ("KL is to the float model's run that all rows are compared with; identical logits give exactly 0.",),
        "The float model was not evaluated against itself in these records (snakemake noise).",
    ),
    "leakage": Caption(
        "Effect of leaked text: rows calibrated or searched on the text that the line names, as where "
        "calibration and evaluation read one data set. KL to the float model on the scored windows, and its ratio to "
        "the study's own row; below 1 the leak helps. Brackets are 95 % intervals "
        "over {runs}.",
        (
            "These rows stand in no other table. Calibrated: statistics, folds and Hessians; searched: sensitivities, "
            "search and selection. Every cell reads as many tokens as the study's own row: of the scored windows, a "
            "part. A search on text of another source reads the calibration's documents.",
            "Another calibration text rounds otherwise too: an interval over windows of one bank does not hold that.",
        ),
        "No rows that saw text near the held-out text are in these records (snakemake leakage).",
    ),
    "gguf": Caption(
        "Files at the bytes of llama.cpp's mixes: each mix as llama.cpp makes it from the float file, and files of "
        "ours that are at most as large. Brackets are 95 % bootstrap intervals over windows of held-out text.",
        (
            "KL ratio: KL of our file over that of the mix above it, made with and without the importance matrix "
            "(imatrix), paired on the same windows; below 1 ours is nearer to the float model. Perplexity: over the "
            "float model's. Same token: positions at which the most probable token is the float model's. MB = "
            "1,000,000 bytes.",
            "Where 256 does not divide a model's rows, llama.cpp writes Q5_1 in the place of Q5_K. Its float minimum "
            "per 32 weights reproduces the grid of a checkpoint that was released as Q4_1, as SmolLM2 was. Q4_1 and "
            "Q5_1 are left out of our menu for that reason, and on such a model that favours Q5_K_M.",
        ),
        "No files at the bytes of llama.cpp's mixes are in these records (snakemake gguf).",
    ),
    "gguf_tuned": Caption(
        "The same files with tuned scales, mixes of llama.cpp and ours alike: the float16 scales of their blocks and "
        "the norms' gains trained by KL to the float model on calibration and training text; codes and bytes stay.",
        (
            "KL ratio: KL of our tuned file over that of the tuned mix above it. Brackets are 95 % bootstrap intervals "
            "over windows of held-out text.",
        ),
        "No tuned files at the bytes of llama.cpp's mixes are in these records (gguf.tune_steps).",
    ),
    "benchmarks": Caption(
        "Speed, memory and bytes beside a reference, measured alternately in one run each. Ratios are the result; the "
        "measures beside them belong to one machine.",
        absent="No benchmark is in these records (snakemake benchmarks).",
    ),
    "parity": Caption(
        "Our quantizers beside the field's packages on the same model, windows, width, groups and grid. Error ratio: "
        "ours over the package's, of linears or of whole blocks on float inputs. Below 1 ours is nearer to the float "
        "model.",
        absent="No comparison with a package is in these records (snakemake parity).",
    ),
    "sizes": Caption(
        "Llama-2-7B ({linears:,} weights in linears, {embedding:,} each in embedding and head, {norms:,} in norms, "
        "{parameters:,} together): what “3.65 bits” can weigh. Arithmetic of this project [C], no measurement.",
        (
            "GB = 1e9 bytes. No single way of counting gives both of the paper's sizes (3.68 GB at 3.65 bits and "
            "3.90 GB for uniform 4-bit AWQ), so every row of this study states the bytes of its file.",
        ),
    ),
    "settings": Caption(
        "Amounts of text, evaluations and seeds; config.json beside the records has every setting.",
        ("Intervals are of {resamples} resamples of windows. Rows of the league have amounts of their own.",),
        "The study's configuration is not beside these records.",
    ),
    "choices": Caption("Choices where the paper is silent (or only digests of it speak): all are this project's own."),
}
"""By the table's name, without the model that it is of."""


def caption(name: str, *notes: str, **values: Any) -> dict[str, Any]:
    """Return title, footnotes (``notes`` after the table's own) and absence of a table, with ``values`` filled in."""
    words = CAPTIONS[name]
    own = (note.format(**values) for note in words.notes)
    return {"title": words.title.format(**values), "footnotes": (*own, *notes), "absent": words.absent}
