# Rows scored on held-out text against the float reference, and on tasks.


rule reference:
    """The float model on the evaluation windows of one text: hidden states and likelihoods."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/{text}.jsonl",
        counts=ancient(token_counts),
        code=sources("ramp/evaluation/__main__.py"),
    output:
        states="<results>/reference/{model}/{text}.safetensors",
    log:
        "<logs>/reference/{model}/{text}.log",
    priority: ROWS_WAIT
    threads: STUDY.threads
    resources:
        **planned_for("reference"),
    params:
        text="{text}",
        length=STUDY.evaluation.length,
        windows=by(VALUES.of_model, source=LIMITS.windows or 0, target=LIMITS.target_windows or 0),
        arithmetic=ARITHMETIC,
    message:
        "float reference of {wildcards.model} on {wildcards.text}"
    shell:
        'gpu_lease python -m ramp.evaluation reference --model-dir "$(dirname {input.model:q})"'
        " --text {params.text:q}={input.text:q} --length {params.length:q} --windows {params.windows:q}"
        " --out {output.states:q} --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


rule evaluate:
    """Perplexity and KL of one row, window by window, with intervals and sizes."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights=by(FILES.weights),
        model=by(FILES.checkpoint),
        references=by(FILES.references),
        same_as=by(FILES.same_network),
        twin=by(FILES.twin),
        allocation=by(FILES.row_allocation),
        code=sources("ramp/evaluation/__main__.py"),
    output:
        metrics="<results>/metrics/{model}/{row}.json",
    log:
        "<logs>/evaluate/{model}/{row}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("evaluate"),
    params:
        measured=by(VALUES.measured_on),
        allocation=option("--allocation", "allocation"),
        twin=option("--twin", "twin"),
        arithmetic=ARITHMETIC,
    message:
        "evaluating {wildcards.model}: {wildcards.row}"
    shell:
        'gpu_lease python -m ramp.evaluation row --row-dir "$(dirname {input.meta:q})"'
        ' --model-dir "$(dirname {input.model:q})" {params.measured:q} {params.allocation:q} {params.twin:q}'
        " --out {output.metrics:q} --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


rule tasks_scored:
    """Commonsense tasks of one row, through lm-evaluation-harness."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights=by(FILES.weights),
        model="<results>/models/{model}/asset.json",
        tasks=expand("<results>/tasks/{task}.jsonl", task=STUDY.tasks.names),
        code=sources("ramp/evaluation/lm_eval_tasks.py"),
    output:
        scores="<results>/tasks_scored/{model}/{row}.json",
    log:
        "<logs>/tasks_scored/{model}/{row}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("tasks_scored"),
    params:
        names=STUDY.tasks.names,
        folder=folder("tasks"),
        limit=LIMITS.task_limit or 0,
        batch=STUDY.tasks.batch or 0,
        arithmetic=ARITHMETIC,
    message:
        "tasks on {wildcards.model}: {wildcards.row}"
    shell:
        'gpu_lease python -m ramp.evaluation.lm_eval_tasks --row-dir "$(dirname {input.meta:q})"'
        ' --model-dir "$(dirname {input.model:q})"'
        " --tasks-dir {params.folder:q} --tasks {params.names:q} --limit {params.limit:q} --batch-size {params.batch:q}"
        " --out {output.scores:q} --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


# Rows of a method that cannot run on this machine record the reason; all other rows are made.
ruleorder: skipped > quantize
ruleorder: skipped > evaluate


rule skipped:
    """The row of a method that cannot run on this machine: its key and the reason, no model and no scores."""
    input:
        code=sources("ramp/evaluation/skipped_row.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}/meta.json",
        metrics="<results>/metrics/{model}/{method}-b{budget}-s{seed}.json",
    log:
        "<logs>/skipped/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.unable),
    localrule: True
    params:
        study=STUDY.study,
        reason=lambda wildcards: PLAN.unable[wildcards.method],
        row=by(VALUES.skipped),
    message:
        "{wildcards.method} cannot run here: {params.reason}"
    shell:
        "python -m ramp.evaluation.skipped_row --study {params.study:q} --model {wildcards.model:q}"
        " --method {wildcards.method:q}"
        " --budget {wildcards.budget:q} --seed {wildcards.seed:q} {params.row:q}"
        " --out {output.meta:q} --metrics {output.metrics:q} > {log:q} 2>&1"
