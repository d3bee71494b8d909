"""Schema of the tables of a study's sections: league, optimum, folds, banks, leakage, tuning. Data only."""

from __future__ import annotations

SECTIONS = """
league (*run evals): allocators at equal cost on one error bank: the incumbent of every run at its checkpoints
    *run
    evals int! [evaluations]: checkpoint: evaluations allowed up to here
    method str!: the method behind the allocator: another name where it is a variant
    title str: what tables call a variant
    eval_tokens int [tokens]: search text of one evaluation
    spent int [evaluations]: evaluations on search text up to here; fewer where the method had finished
    tokens int [tokens]: forward tokens up to here (backward = 2), sensitivities and selection included
    kl_start float [nats per token]: KL of the warm start on search text; empty where there is none
    kl_start_held float [nats per token]: KL of the warm start on held-out text
    kl_search float [nats per token]: KL of the incumbent on search text
    kl_selection float [nats per token]: KL of the incumbent on selection text
    kl_held float [nats per token]: KL of the incumbent on held-out text; empty where there is none
    *interval
    bytes_linear int [bytes]: packed linears of the incumbent
    wall_s float [s]: wall time of the search up to here
    rtn_cost float: cost of uniform RTN to a model trained for the league, exp(KL) - 1: it accepts the model
    rtn_cost_text float: the same on selection text, ppl / ppl_float - 1: for information
    planned int [runs]: runs that the league's grids have in all; the table may hold fewer
    note str: why there is no incumbent, or what it is

league_windows (*run evals window): sums of the league's incumbents per held-out window, which pair them
    *run
    evals int! [evaluations]: checkpoint
    *sums

league_curves (*run evals): anytime curves: the best allocation on search text so far, when it changes
    *run
    evals int! [evaluations]: evaluations on search text so far
    tokens int [tokens]: forward tokens so far, sensitivities included
    is_start bool!: this is the run's warm start
    kl_search float [nats per token]: its KL on search text
    kl_held float [nats per token]: its KL on held-out text

league_banks (model bank): banks of the league by the draw of calibration text that they were made of
    *model
    bank str!: digest of bank and held-out text, as in league.csv
    bank_seed int!: draw of calibration text and of the windows of sensitivities; 0 is the study's own

optimum (model units budget_bits allocator evals seed): distance from the optimum; every KL is on the enumerated text
    *problem
    budget_bits float! [bits per weight]: budget over the units
    allocator str!: method
    evals int! [evaluations]: evaluations allowed
    seed int!: seed
    title str: what tables call the allocator
    spent int [evaluations]: evaluations spent
    kl float [nats per token]: KL reached; empty where nothing within the budget was found
    kl_optimum float [nats per token]: KL of the optimum
    gap float [nats per token]: kl - kl_optimum
    gap_share float: gap / kl_optimum
    better int [allocations]: allocations within the budget that are better than this one
    allocations int [allocations]: allocations within the budget, all enumerated
    note str: what a reader must know
    command str: how the enumeration was made

additivity (model units bits): how additive the loss is: units quantized one at a time against all at once
    *problem
    bits int! [bits]: width of every unit
    kl_sum float [nats per token]: sum over units of the KL with that unit alone quantized
    kl_joint float [nats per token]: KL with all units at this width
    ratio float: kl_joint / kl_sum: above 1 errors reinforce each other
    tokens int [tokens]: scored tokens of the enumerated text

folding (*fold_row): the ablation of Scale Folding: uniform rows of every quantizer on every fold
    *fold_row
    fold str!: the fold as the configuration calls it
    kind str!: none, smoothquant or awq
    alpha float: SmoothQuant's migration strength
    sites str: inputs that are folded: attn_in o_in mlp_in down_in
    title str: what tables call a variant of a quantizer
    error_ratio float: output error with the fold over without, calibration text, geometric mean
    ppl float: perplexity on held-out text
    ppl_low float: 2.5 % end of the block bootstrap
    ppl_high float: 97.5 % end
    kl float [nats per token]: KL(float || row) on held-out text
    *interval
    n_windows int [windows]: held-out windows
    length int [tokens]: window length
    bytes_linear int [bytes]: packed linears
    bpw_linear float [bits per weight]: 8 bytes_linear / weights of the linears
    dtype str: arithmetic of the evaluation
    wall_s float [s]: wall time of quantizing and scoring
    commit str: commit of this repository
    hardware str: processor and GPU

folding_windows (*fold_row window): per-window sums of the ablation's rows: folds are compared on these, paired
    *fold_row
    *sums

banks (*bank_row): final rows over banks: methods are compared within a bank, and intervals run over banks
    *bank_row
    title str: what tables call a variant
    kl float [nats per token]: KL(float || row) on held-out text
    kl_low float [nats per token]: 2.5 % end of the block bootstrap over windows
    kl_high float [nats per token]: 97.5 % end
    kl_knapsack float [nats per token]: KL of the knapsack on the same bank at the same budget
    ratio float: kl / kl_knapsack
    n_windows int [windows]: held-out windows
    length int [tokens]: window length
    bytes_linear int [bytes]: packed linears
    dtype str: arithmetic of the evaluation
    commit str: commit of this repository
    hardware str: processor and GPU
    arithmetic str?: reproducible or fast, when the row was scored

banks_windows (*bank_row window): sums of these rows per held-out window: intervals over banks are resampled from them
    *bank_row
    *sums

leakage (*leak_row): what a leak buys: rows calibrated or searched near the held-out text; they stand in no other table
    *leak_row
    own bool!: the study's own row, which the others are compared with
    text str!: text that the row is scored on
    kl float [nats per token]: KL(float || row) on that text
    kl_low float [nats per token]: 2.5 % end of the block bootstrap over windows
    kl_high float [nats per token]: 97.5 % end
    ratio float: kl over that of the study's own row of the same draw, paired over windows; empty of that row itself
    ratio_low float: 2.5 % end of its block bootstrap
    ratio_high float: 97.5 % end
    n_windows int! [windows]: windows
    length int! [tokens]: window length
    bytes_linear int [bytes]: packed linears
    dtype str: arithmetic of the evaluation
    commit str: commit of this repository
    hardware str: processor and GPU

leakage_windows (*leak_row window): sums of these rows per window: intervals over banks are resampled from them
    *leak_row
    *sums

tuning (*tuned_row): rows whose scales were tuned by KL, codes frozen, beside the rows that they come from
    *tuned_row
    mixed bool!: widths are those of an allocation
    steps int! [steps]: training steps
    rate float! [share]: largest step of a scale's relative change
    tokens int! [tokens]: text that tuning read: steps x windows x length
    wall_s float [s]: wall time of the tuning, without quantizing and scoring
    kl_before float [nats per token]: KL(float || row) on held-out text, scales as quantized
    kl_after float [nats per token]: the same with tuned scales, as stored
    ratio float: kl_after / kl_before, paired over held-out windows
    ratio_low float: 2.5 % end of its block bootstrap over windows
    ratio_high float: 97.5 % end
    n_windows int [windows]: held-out windows
    length int [tokens]: window length
    bytes_linear int [bytes]: packed linears, the same before and after
    dtype str: arithmetic of the evaluation
    commit str: commit of this repository
    hardware str: processor and GPU

tuning_windows (*tuned_row tuned window): sums of these rows per held-out window, before and after tuning
    *tuned_row
    tuned bool!: after tuning
    *sums

stability (model inputs stage varied): where two machines part: each stage again with other instruction sets and threads
    *model
    inputs str!: the study's own files of the stages before, so that a line shows what its stage adds
    stage str!: stage, or a step inside one (second moments, Cholesky)
    varied str!: what makes this machine calculate as another one (benchmarks.stability)
    baseline str!: run that it is held beside: plain (fast arithmetic) or reproducible
    codes_changed float! [share]: codes, or values where a stage gives none, that differ from the baseline's
    largest_change float! [share]: largest difference of one, of its size or the mean size of its array
    kl_change float [share]: relative change of the KL, of stages that end in one
    processor_s float [s]: processor time of the stage
    processor_s_baseline float [s]: that of the baseline
    commit str: commit of this repository
    hardware str: processor and GPU

"""
"""Text of ``ramp.records.schema``, whose groups of columns it uses."""
