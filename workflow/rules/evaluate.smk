# Every reported row: quantized again, sequentially, by one and the same function; then scored.


rule float_row:
    """The float model and the released file: sizes alone, nothing is quantized."""
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
        "python -m ramp.rows.quantize --model-dir $(dirname {input.model}) --method-file {wildcards.method}"
        " --group-size {params.group_size} --track {params.track} --seed {wildcards.seed} --study {params.study}"
        " --out $(dirname {output.meta}) > {log} 2>&1"


rule quantize:
    """One packed checkpoint: a uniform width, or the widths of an allocation."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        fold=fold_file,
        method=method_file,
        allocation=allocation_of,
        code=quantize_sources,
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}/meta.json",
        weights="<results>/quantized/{model}/{method}-b{budget}-s{seed}/model.safetensors",
    log:
        "<logs>/quantize/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/quantize/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of([*[name for name in PLAN.methods if name not in PLAN.packages], *PLAN.transferred]),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        study=STUDY.study,
        tokens=calibration_tokens,
        length=STUDY.calibration.length,
        widths=width_option,
        group_size=STUDY.group_size,
        track=STUDY.track,
        device=STUDY.device,
    message:
        "quantizing {wildcards.model}: {wildcards.method}, {wildcards.budget} bits"
    shell:
        "lease python -m ramp.rows.quantize --model-dir $(dirname {input.model}) --text {input.text}"
        " --tokens {params.tokens} --length {params.length} --fold {input.fold} --method-file {input.method}"
        " {params.widths} --group-size {params.group_size} --track {params.track}"
        " --seed {wildcards.seed} --study {params.study} --out $(dirname {output.meta}) --threads {threads}"
        " --device {params.device} > {log} 2>&1"


rule track:
    """A row once more, embedding and head in another track: its linears are taken over as they are."""
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
        row=any_of(sorted({row.name for row, _ in PLAN.track_rows})),
        track=any_of(sorted({track for _, track in PLAN.track_rows})),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    message:
        "storing {wildcards.model} {wildcards.row} in track {wildcards.track}"
    shell:
        "python -m ramp.rows.retrack --row-dir $(dirname {input.meta}) --model-dir $(dirname {input.model})"
        " --track {wildcards.track} --out $(dirname {output.meta}) --threads {threads} > {log} 2>&1"


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
        windows=window_count,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "float reference of {wildcards.model} on {wildcards.text}"
    shell:
        "lease python -m ramp.evaluation reference --model-dir $(dirname {input.model})"
        " --text {wildcards.text}={input.text} --length {params.length} --windows {params.windows}"
        " --out {output.states} --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


rule evaluate:
    """Perplexity and KL of one row, window by window, with intervals and sizes."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights=row_weights,
        model="<results>/models/{model}/asset.json",
        references=reference_files,
        same_as=same_network,
        allocation=row_allocation,
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
        measured=measured_on,
        allocation=allocation_option,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "evaluating {wildcards.model}: {wildcards.row}"
    shell:
        "lease python -m ramp.evaluation row --row-dir $(dirname {input.meta})"
        " --model-dir $(dirname {input.model}) {params.measured} {params.allocation}"
        " --out {output.metrics} --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


rule tasks_scored:
    """Commonsense tasks of one row, through lm-evaluation-harness."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights=row_weights,
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
        folder=tasks_folder,
        limit=LIMITS.task_limit or 0,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "tasks on {wildcards.model}: {wildcards.row}"
    shell:
        "lease python -m ramp.evaluation.tasks --row-dir $(dirname {input.meta}) --model-dir $(dirname {input.model})"
        " --tasks-dir {params.folder} --tasks {params.names} --limit {params.limit} --out {output.scores}"
        " --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


# A method that cannot run here costs its own rows, which then say why; everything else goes on.
ruleorder: skipped > quantize
ruleorder: skipped > evaluate


rule skipped:
    """The row of a method with a reason not to run here: its key and the reason, no model and no scores."""
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
        reason=reason_of,
        kind=row_kind,
        fold=row_fold,
        group_size=row_group_size,
        track=STUDY.track,
    message:
        "{wildcards.method} cannot run here: {params.reason}"
    shell:
        "python -m ramp.evaluation.skipped_row --study {params.study} --model {wildcards.model} --method {wildcards.method}"
        " --budget {wildcards.budget} --seed {wildcards.seed} --fold {params.fold} --group-size {params.group_size}"
        " --track {params.track} --kind '{params.kind}' --reason {params.reason} --out {output.meta}"
        " --metrics {output.metrics} > {log} 2>&1"
