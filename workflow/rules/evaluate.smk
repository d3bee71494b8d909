# Rows scored on held-out text against the float reference, and on tasks.


rule reference:
    """The float model on the evaluation windows of one text: hidden states and likelihoods."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/{text}.jsonl",
        code=sources("ramp/evaluation/__main__.py"),
    output:
        states="<results>/reference/{model}/{text}.safetensors",
    log:
        "<logs>/reference/{model}/{text}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        length=STUDY.evaluation.length,
        windows=by(VALUES.of_model, source=LIMITS.windows or 0, target=LIMITS.target_windows or 0),
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "float reference of {wildcards.model} on {wildcards.text}"
    shell:
        'lease python -m ramp.evaluation reference --model-dir "$(dirname {input.model:q})"'
        " --text {wildcards.text:q}={input.text:q} --length {params.length:q} --windows {params.windows:q}"
        " --out {output.states:q} --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


rule evaluate:
    """Perplexity and KL of one row, window by window, with intervals and sizes."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights=by(FILES.weights),
        model="<results>/models/{model}/asset.json",
        references=by(FILES.references),
        same_as=by(FILES.same_network),
        allocation=by(FILES.row_allocation),
        code=sources("ramp/evaluation/__main__.py"),
    output:
        metrics="<results>/metrics/{model}/{row}.json",
    log:
        "<logs>/evaluate/{model}/{row}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        measured=by(VALUES.measured_on),
        allocation=option("--allocation", "allocation"),
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "evaluating {wildcards.model}: {wildcards.row}"
    shell:
        'lease python -m ramp.evaluation row --row-dir "$(dirname {input.meta:q})"'
        ' --model-dir "$(dirname {input.model:q})" {params.measured:q} {params.allocation:q}'
        " --out {output.metrics:q} --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


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
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        names=STUDY.tasks.names,
        folder=by(FILES.folder, name="tasks"),
        limit=LIMITS.task_limit or 0,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "tasks on {wildcards.model}: {wildcards.row}"
    shell:
        'lease python -m ramp.evaluation.lm_eval_tasks --row-dir "$(dirname {input.meta:q})" --model-dir "$(dirname {input.model:q})"'
        " --tasks-dir {params.folder:q} --tasks {params.names:q} --limit {params.limit:q} --out {output.scores:q}"
        " --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


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
    conda:
        "../envs/main.yml"
    params:
        study=STUDY.study,
        reason=by(VALUES.reason),
        kind=by(VALUES.kind),
        fold=by(VALUES.fold_name),
        group_size=by(VALUES.group_size),
        track=STUDY.track,
    message:
        "{wildcards.method} cannot run here: {params.reason}"
    shell:
        "python -m ramp.evaluation.skipped_row --study {params.study:q} --model {wildcards.model:q} --method {wildcards.method:q}"
        " --budget {wildcards.budget:q} --seed {wildcards.seed:q} --fold {params.fold:q} --group-size {params.group_size:q}"
        " --track {params.track:q} --kind {params.kind:q} --reason {params.reason:q} --out {output.meta:q}"
        " --metrics {output.metrics:q} > {log:q} 2>&1"
