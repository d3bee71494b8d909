"""Schema of the records: each table with its columns, their dtype, unit and meaning. Data only.

The record key is (study, model, method, grid, stage, budget_bits, group_size, fold, seed). ``ramp.records.table``
reads, writes and checks the tables.
"""

from __future__ import annotations

from ramp.records.column_types import read_schema
from ramp.records.schema_sections import SECTIONS

NO_EVIDENCE = "not evidence"
NOT_TESTED = "not tested"
REPLICATED, PARTLY = "replicated", "partly"
VERDICTS = (REPLICATED, PARTLY, "not replicated", "inconclusive", NO_EVIDENCE, NOT_TESTED)
"""Verdicts on a claim: "inconclusive" where the interval holds the limit. Two are none: NO_EVIDENCE, from too little
text or one seed, and NOT_TESTED, where the records lack what the claim needs."""

# A table: its name, the columns that name a row (unique, and the sort order), its meaning; then one line per column,
# ``name dtype [unit]: meaning``; ``!`` after the dtype marks a column that is never empty, ``?`` one that a table may
# lack. ``{text}`` and ``{task}`` stand for one column per evaluated text or task. ``*group`` is a group of columns,
# given above the tables.
_GROUPS, TABLES = read_schema(
    """
*model
    model str!: short name of the model, e.g. smollm2-135m

*key
    study str!: study of the configuration: embedded, smoke, paper ...
    *model
    method str!: float, released, rtn, gptq, awq, knapsack, ramp ...
    grid str!: float, released, affine, ggml or package (a package's own)
    stage str!: float, bank (assembled from the bank), final, or final_{track}: the same in another track
    budget_bits float! [bits per weight]: budget, as the uniform width of the same bytes_linear
    group_size int! [weights]: group size asked for; 0 where there is none
    fold str!: fold of the row: none, awq, smoothquant
    seed int!: seed of the row

*interval
    ci_low float: 2.5 % end of the block bootstrap
    ci_high float: 97.5 % end

*sums
    window int!: index of the window; the same tokens for all rows of a model
    tokens int! [tokens]: predicted tokens: window length - 1
    nll float [nats]: sum of negative log-likelihoods
    kl float [nats]: sum of KL(float || row)

*linear
    linear str!: module path
    layer int!: decoder block, from 0
    role str!: q k v o gate up down

*run
    *model
    bank str!: digest of bank and held-out text, or a name: another's rows compare with none
    grid str!: affine or ggml
    budget_bits float! [bits per weight]: budget
    run_evals int! [evaluations]: evaluations that the whole run was allowed; a row is read from it
    allocator str!: method, or a named variant of one
    seed int!: seed

*problem
    *model
    units str!: what is allocated: halves-8 (attention or MLP of a block), linears-8

*fold_row
    *model
    method str!: quantizer or a variant of one; float is the folded float model
    bits int! [bits]: width of every linear; 16 for float
    group_size int! [weights]: group size asked for; 0 for float
    file str!: the fold file: awq_w3 where it was searched at the row's own width

*bank_row
    *model
    method str!: allocator, a variant of one, or a uniform method
    budget_bits float! [bits per weight]: budget, or the width of a uniform row
    bank_seed int!: the bank: draw of calibration text and of the windows of sensitivities; 0 is the study's own
    allocation_bank int!: bank on which the widths were searched: bank_seed, or 0 where one allocation is on every bank
    search_seed int!: seed of the search; the row's own where there is none

*leak_row
    *model
    method str!: uniform method, or allocator
    budget_bits float! [bits per weight]: budget, or the width of a uniform row
    calibration str!: text of statistics, folds, Hessians: disjoint (another source), in_domain, test (scored windows)
    search str!: text of sensitivities, search and selection: the same levels; none of a uniform row
    bank_seed int!: draw of calibration text; 0 is the study's own
    row_seed int!: seed of the row

*tuned_row
    *model
    method str!: uniform method, or allocator
    budget_bits float! [bits per weight]: budget, or the width of a uniform row
    grid str!: affine or ggml
    bank_seed int!: draw of calibration text; 0 is the study's own
    row_seed int!: seed of the row
    seed int!: seed of the tuning: the order of its windows

*origin
    who str!: name of the person or group that ran it, as given when the rows were merged
    machine str!: processor, from the digests of the run, else from its rows
    instruction_set str: of torch's kernels in the run: DEFAULT, AVX2, AVX512; empty where it was not recorded
    bank str!: digest of texts, model, calibration, folds and bank, or the run itself: another's rows compare with none

*record
    *key
    kind str: float, released, uniform, package (another's), proxy (no search), best, policy, not run
    track str: how embedding and head are stored: q8_0, fp16, or the released file's own
    bytes_file int [bytes]: stat of the file of this row: the only size compared between methods
    bytes_linear int [bytes]: packed linears: codes, scales, zeros
    bytes_embedding int [bytes]: token embedding
    bytes_head int [bytes]: output head; 0 where it is tied to the embedding
    bytes_other int [bytes]: norms, biases, file header
    bytes_native int [bytes]: file of the method's own package, where it has one
    bits_nominal float [bits per weight]: mean payload width of the linears, weighted by parameters
    bits_nominal_unweighted float [bits per weight]: mean payload width over linears
    bpw_linear float [bits per weight]: 8 bytes_linear / weights of the linears: overhead inside
    bpw_file float [bits per weight]: 8 bytes_file / all parameters
    ppl_{text} float: perplexity, exp(sum nll / sum tokens)
    ppl_low_{text} float: its interval over windows, 2.5 % end of the bootstrap
    ppl_high_{text} float: 97.5 % end
    kl_{text} float [nats per token]: mean KL(float model || this row)
    kl_low_{text} float [nats per token]: 2.5 % end of the bootstrap
    kl_high_{text} float [nats per token]: 97.5 % end
    n_windows_{text} int [windows]: evaluated windows: the limit of these columns
    length_{text} int [tokens]: window length; 2048 or the model's context
    acc_{task} float [share]: accuracy by lm-eval, zero-shot
    acc_norm_{task} float [share]: length-normalised accuracy by lm-eval; empty where the task has none
    acc_se_{task} float [share]: lm-eval's standard error of acc
    n_items_{task} int [rows]: scored rows: the limit of these columns
    search_evals int [evaluations]: true evaluations on search text; 0 for uniform rows
    search_tokens int [tokens]: forward tokens (backward = 2), sensitivities included
    search_wall_s float [s]: wall time of the search
    kl_start float [nats per token]: KL of the warm start on search text
    kl_search float [nats per token]: KL of the reported allocation on search text
    kl_policy float [nats per token]: KL of the policy's greedy allocation on search text
    kl_start_selection float [nats per token]: KL of the warm start on selection text
    kl_selection float [nats per token]: KL of the reported allocation on selection text
    projected bool: the budget was enforced after the search
    quantize_wall_s float [s]: wall time of the final quantization
    peak_rss_bytes int [bytes]: peak resident memory of the quantization
    peak_gpu_bytes int [bytes]: peak GPU memory of the quantization; empty without a GPU
    produced str: simulated (de-quantized weights in torch), exported (a runtime's file), not run (see note)
    note str: text of the footnote below the table
    commit str: commit of this repository when the row was evaluated
    versions str: name=version of what scored the row, package:name=version of another's package and its own
    hardware str: processor and GPU
    config_hash str: sha256 of the study's configuration, 12 digits
    dtype str?: dtype of the float model and the row when they were scored
    arithmetic str?: reproducible or fast (ramp.core.arithmetic), when the row was scored

records (*key): one row of results per method, model, budget and seed
    *record

windows (*key text window): per-window sums: every interval between methods is paired on these
    *key
    text str!: heldout, wikitext2 ...
    *sums

items (*key task doc_id): answers of the commonsense tasks, item by item
    *key
    task str!: task by lm-eval's name
    doc_id int!: row of the task's file
    correct bool!: the likeliest choice is the right one
    correct_norm bool: the same, length-normalised; empty where the task has none

allocations (*key which linear): width and bytes of every linear
    *key
    which str!: reported, policy (greedy policy) or start (warm start)
    *linear
    bits int [bits]: payload width; the nominal one of the ggml type
    type str!: affine, the ggml type, or package (a grid of its own)
    bytes int [bytes]: packed size with scales and zeros

episodes (*key episode): allocations that a search evaluated, in order
    *key
    episode int!: from 0; the warm start is the first where there is one
    evals int [evaluations]: evaluations on search text so far
    tokens int [tokens]: forward tokens so far
    proposer str: origin of the allocation: start, actor, critic, random ...
    kl float [nats per token]: search KL of the episode's allocation; empty where not finite
    ppl float: perplexity on search text
    bytes int [bytes]: bytes_linear of the episode's allocation
    feasible bool: whether it meets the budget
    best float [nats per token]: search loss of the best feasible allocation so far
    reward_quality float: -k_q max(0, quality loss)
    reward_saving float: k_b max(0, 1 - bytes / budget)
    reward_overshoot float: -k_o max(0, bytes / budget - 1)
    reward_cliff float: -k_c where bytes exceed the budget
    reward_total float: return of the episode: the sum of the four
    alpha float: temperature of the soft actor-critic
    entropy float [nats]: mean entropy of the policy
    critic_loss float: loss of the critics after the episode's updates
    actor_loss float: loss of the actor

activations (model fold linear channel_quantile): quantiles over channels of the activations that a linear reads
    *model
    fold str!: none is before folding, the others after
    *linear
    channel_quantile float!: quantile over input channels, 0 to 1
    absmax float: that quantile of the channels' max|x|
    absmean float: that quantile of the channels' mean|x|

benchmarks (benchmark): ours and a reference in one run: ratios, never absolute times
    benchmark str!: what is measured, and against what
    ours float: our measure, in unit
    reference float: the reference's measure, in unit, of the same run
    ratio float: ours / reference
    unit str: processor s, bytes, entries/min ...
    note str: text of the footnote below the table, e.g. that a time is extrapolated
    command str: how to measure it again

entropy (model method budget_bits seed): what lossless coding of a row's codes would save
    *model
    method str!: quantizer or allocator
    budget_bits float! [bits per weight]: budget, or the width of a uniform row
    seed int!: seed of the row
    bits_stored float! [bits per weight]: codes as packed, without scales and zero-points, weighted by weights
    bits_entropy float! [bits per weight]: entropy of each linear's codes: the least of a coder, without its table
    saving float! [share]: bytes of the linears that such coders would save
    weights int! [weights]: weights of the linears
    bytes_linear int! [bytes]: packed linears

parity (method reference model bits group_size symmetric settings): our quantizers against the original packages
    method str!: gptq, awq ...
    reference str!: package and version
    *model
    bits int! [bits]: width
    group_size int! [weights]: group size asked for
    symmetric bool!: a grid with its zero-point in the middle
    settings str!: equal, or what was set otherwise to find a cause
    kl_ours float [nats per token]: KL of our row, held-out windows
    kl_reference float [nats per token]: KL of the package's row
    ratio float: kl_ours / kl_reference
    error_measure str: linears (sum of tr(dW H dW^T)) or blocks (sum of squared output errors)
    error_ours float [squared output per token]: reconstruction error, of float inputs
    error_reference float [squared output per token]: that of the package
    error_ratio float: error_ours / error_reference
    note str: why the package's row is missing, or what of it a reader must know
    command str: how to measure it again

transfer (source target budget_bits policy seed text): a policy trained on one model and used, untouched, on another
    source str!: model that trained the policy
    target str!: model that it allocates
    budget_bits float! [bits per weight]: budget on the target
    policy str!: method that trained the policy
    seed int!: seed of the policy
    text str!: evaluated text
    gap_closed float: (kl_random - kl_transfer) / (kl_random - kl_knapsack), paired over windows
    *interval
    kl_transfer float [nats per token]: KL of the transferred row
    kl_random float [nats per token]: KL of the target's own random search: 0 of the gap
    kl_knapsack float [nats per token]: KL of the target's own Fisher knapsack: 1 of the gap
    kl_native float [nats per token]: KL of the same method searched on the target
    n_windows int [windows]: paired windows
    note str: why a number is missing

halo (file check): checks of exported GGUF files
    file str!: file under R/halo
    check str!: what was checked
    value float: what was measured
    limit float: what it may be at most
    ok bool!: whether it held

noise (model what): the float model against its own reference under other conditions
    *model
    what str!: what differs from the run that made the reference
    kl float! [nats per token]: KL(reference || this run), over all windows
    kl_max float! [nats per token]: the largest of a window
    unit str!: unit of both
    ppl_ratio float!: perplexity over the reference's
    n_windows int! [windows]: windows of held-out text
    dtype str!: arithmetic of this run

gguf (model file rival): files of ours at the bytes of llama.cpp's mixes, and these mixes; speeds are of one run
    *model
    file str!: name of the file; a file of ours has one row for each mix that it is compared with
    method str!: allocator of ours, or the mix's name
    matrix bool!: made with an importance matrix
    tuned bool!: scales were tuned after quantizing
    bytes_file int! [bytes]: stat of the file
    kl float! [nats per token]: KL(float model || this file) on held-out text
    kl_low float [nats per token]: 2.5 % end of the bootstrap over windows
    kl_high float [nats per token]: 97.5 % end
    rival str!: file of the mix at whose bytes this one was made; none in the row of a mix
    rival_bytes_file int [bytes]: its bytes
    rival_kl float [nats per token]: its KL on the same windows
    kl_ratio float: kl / rival_kl, paired over windows
    ratio_low float: 2.5 % end of its interval
    ratio_high float: 97.5 % end
    ppl_ratio float: perplexity over the float model's
    top1 float [share]: positions at which the most probable token is the float model's
    prompt_tokens_per_s float [tokens/s]: a prompt in one batch, in llama.cpp on this processor
    generation_tokens_per_s float [tokens/s]: one token after the other
    peak_rss_bytes int [bytes]: peak resident memory of the process that ran this file

merged (who machine bank *key): rows of several people's runs: records.csv of each, with its origin
    *origin
    *record

merged_windows (who machine bank *key text window): per-window sums of these rows; rows of one bank pair on them
    *origin
    *key
    text str!: heldout, wikitext2 ...
    *sums

cluster (executor study): one study sent through an executor, beside a run of it on one machine
    executor str!: Snakemake's executor: slurm, kubernetes ...
    study str!: study of the configuration
    jobs int! [jobs]: jobs that were submitted to the executor; others run where Snakemake does
    wall_s float! [s]: wall time from the first job to the last
    records_equal bool!: rows, claims and digests equal those of the run on one machine
    note str: scheduler, machine and load
    command str: how to run it again

plan_paper (stage): plan of the paper's study, by stage; memory is the largest job's
    stage str!: stage, or total
    jobs int! [jobs]: planned jobs
    hours float! [hours]: of all jobs of the stage together; of the total from start to end on one machine
    gpu_gb float! [GB]: peak memory of a card; 0 where none is used
    host_gb float! [GB]: peak memory of the host, mapped files aside
    disk_gb float! [GB]: what the stage writes; of the total the most that lies on the disk at once
    download_gb float! [GB]: what is fetched
    basis str!: measured, or arithmetic

plan_check (stage): plan of a study beside a run of it, over the jobs that left a log
    stage str!: stage, or total
    hours_planned float! [hours]: planned
    hours_run float! [hours]: processor time of the jobs, on a card seconds of the clock
    ratio float: planned / run

audit (model bits gb accounting): ways of counting that stated bits and gigabytes of a model may mean; arithmetic
    *model
    bits float! [bits per weight]: stated
    gb float! [GB]: stated
    accounting str!: what the bits hold, how embedding and head are stored, the unit
    bits_of_it float! [bits per weight]: what the stated gigabytes come to
    gb_of_it float! [GB]: what the stated bits come to
    fits bool!: whether both agree

profile (study rule model): processor time of a study's jobs before and after a change, by the last lines of their logs
    study str!: study
    rule str!: rule of the workflow
    model str!: model, or none
    jobs int! [jobs]: finished jobs after the change
    cpu_s_before float [s]: processor time before the change; empty where there were no such jobs
    cpu_s_after float [s]: processor time after it
    peak_rss_bytes int [bytes]: memory of the largest job, after it

accidents (area fault): faults that were injected, and how they ended (tests/faults)
    area str!: configuration, files, stages or workflow
    fault str!: kind of the fault
    injected int! [faults]: tried
    survived int! [faults]: the work went on, or was made again by the same command, with the right result
    clean int! [faults]: one sentence with the file and the remedy, exit status 2
    tracebacks int! [faults]: a traceback of Python, or a crash of native code
    hangs int! [faults]: no end in time
    lost int! [faults]: a half-written or false result, or a temporary file that stays

gguf_checks (model file check): checks of these files of ours
    *model
    file str!: name of the file
    check str!: what was checked
    value float: what was measured
    limit float: what it may be at most
    ok bool!: whether it held
"""
    + SECTIONS
)

KEY_NAMES, RUN_NAMES, FOLD_NAMES, BANK_NAMES, LEAK_NAMES, TUNED_NAMES, ORIGIN_NAMES = (
    tuple(column.name for column in _GROUPS[group])
    for group in ("key", "run", "fold_row", "bank_row", "leak_row", "tuned_row", "origin")
)
"""Columns that name a row of the records, a run of the league, a row of the folds' ablation, a row over banks, a row
of the leakage meter, a tuned row, and the origin of a merged row."""

STABILITY_ORDER = (
    "calibration", "fold", "second moments", "Cholesky", "bank", "sensitivity", "search", "rows", "reference",
    "evaluation",
)  # fmt: skip
"""Stages of stability.csv, in the order in which data passes."""

CLAIM_FIELDS: dict[str, str] = {
    "id": "C1 ... C11, and C10b",
    "verdict": "one of VERDICTS",
    "scale": "what it was tested on; without a verdict, why there is none",
    "measure": "what was measured, in words",
    "value": "the measure, a number or null",
    "margin": "[low, high], the interval of the value, or null",
    "rows": "records that it rests on: list of strings model/method-b{budget}-s{seed}",
}
"""Fields of an entry of claims.json; others are refused, so that prose does not grow in the records."""
