# Every reported row is quantized sequentially by one function, then scored.


rule float_row:
    """Sizes of the float model and of the released file; nothing is quantized."""
    input:
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/rows/quantize.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b16-s{seed}/meta.json",
    log:
        "<logs>/quantize/{model}/{method}-b16-s{seed}.log",
    wildcard_constraints:
        method="float|released",
    conda:
        "../envs/main.yml"
    params:
        study=STUDY.study,
        group_size=STUDY.group_size,
        track=STUDY.track,
    message:
        "sizes of {wildcards.model}: {wildcards.method}"
    shell:
        'python -m ramp.rows.quantize --model-dir "$(dirname {input.model:q})" --method-file {wildcards.method:q}'
        " --group-size {params.group_size:q} --track {params.track:q} --seed {wildcards.seed:q} --study {params.study:q}"
        ' --out "$(dirname {output.meta:q})" > {log:q} 2>&1'


rule quantize:
    """One packed checkpoint: a uniform width, or the widths of an allocation."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        fold=by(FILES.fold),
        method=by(FILES.method),
        allocation=by(FILES.allocation),
        code=by(FILES.stage, stage="ramp/rows/quantize.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}/meta.json",
        weights="<results>/quantized/{model}/{method}-b{budget}-s{seed}/model.safetensors",
    log:
        "<logs>/quantize/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/quantize/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of(sorted({*PLAN.methods, *PLAN.transferred} - {*PLAN.of_kind(Package)})),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        study=STUDY.study,
        tokens=by(VALUES.of_model, source=STUDY.calibration.tokens, target=STUDY.calibration.target_tokens),
        length=STUDY.calibration.length,
        file=by(VALUES.reference),
        allocation=option("--allocation", "allocation"),
        widths=by(VALUES.widths),
        group_size=STUDY.group_size,
        track=STUDY.track,
        device=STUDY.device,
    message:
        "quantizing {wildcards.model}: {wildcards.method}, {wildcards.budget} bits"
    shell:
        'lease python -m ramp.rows.quantize --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --tokens {params.tokens:q} --length {params.length:q} --fold {input.fold:q} --method-file {params.file:q}"
        " {params.allocation:q} {params.widths:q} --group-size {params.group_size:q} --track {params.track:q}"
        ' --seed {wildcards.seed:q} --study {params.study:q} --out "$(dirname {output.meta:q})" --threads {threads}'
        " --device {params.device:q} > {log:q} 2>&1"


rule track:
    """A row with embedding and head in another track; its linears are copied."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights="<results>/quantized/{model}/{row}/model.safetensors",
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/rows/retrack.py"),
    output:
        meta="<results>/quantized/{model}/{row}-{track}/meta.json",
        weights="<results>/quantized/{model}/{row}-{track}/model.safetensors",
    log:
        "<logs>/track/{model}/{row}-{track}.log",
    wildcard_constraints:
        row=any_of(sorted({row.base for row in PLAN.track_rows})),
        track=any_of(sorted({row.ending for row in PLAN.track_rows})),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    message:
        "storing {wildcards.model} {wildcards.row} in track {wildcards.track}"
    shell:
        'python -m ramp.rows.retrack --row-dir "$(dirname {input.meta:q})" --model-dir "$(dirname {input.model:q})"'
        ' --track {wildcards.track:q} --out "$(dirname {output.meta:q})" --threads {threads} > {log:q} 2>&1'


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
    benchmark:
        "<benchmarks>/reference/{model}/{text}.tsv"
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
    benchmark:
        "<benchmarks>/evaluate/{model}/{row}.tsv"
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
        code=sources("ramp/evaluation/tasks.py"),
    output:
        scores="<results>/tasks_scored/{model}/{row}.json",
    log:
        "<logs>/tasks_scored/{model}/{row}.log",
    benchmark:
        "<benchmarks>/tasks_scored/{model}/{row}.tsv"
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
        'lease python -m ramp.evaluation.tasks --row-dir "$(dirname {input.meta:q})" --model-dir "$(dirname {input.model:q})"'
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
