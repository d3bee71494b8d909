# Scale Folding varied and nothing else: uniform rows of every quantizer on every fold, apart from the study's rows.


rule fold_reference:
    """The float model on the ablation's held-out windows, in float32: bfloat16 would hide what a fold alone changes."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/heldout.jsonl",
        code=sources("ramp/evaluation/__main__.py"),
    output:
        states="<results>/fold_ablation/{model}/reference.safetensors",
    log:
        "<logs>/fold_reference/{model}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        places=by(VALUES.fold_text),
        device=STUDY.device,
    message:
        "float reference of {wildcards.model} for the folds' ablation"
    shell:
        'lease python -m ramp.evaluation reference --model-dir "$(dirname {input.model:q})" --text heldout={input.text:q}'
        " {params.places:q} --out {output.states:q} --threads {threads} --device {params.device:q} --dtype float32"
        " > {log:q} 2>&1"


rule fold_run:
    """One uniform row on one fold, quantized as every final row is and scored."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        fold="<results>/folds/{model}/{file}.safetensors",
        reference="<results>/fold_ablation/{model}/reference.safetensors",
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/league/fold_ablation.py"),
    output:
        row="<results>/fold_ablation/{model}/{file}/{method}-b{bits}.json",
    log:
        "<logs>/fold_run/{model}/{file}-{method}-b{bits}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        name=by(PLAN.folds.fold_of),
        method=by(VALUES.fold_run),
        tokens=by(VALUES.of_model, source=STUDY.calibration.tokens, target=STUDY.calibration.target_tokens),
        length=STUDY.calibration.length,
        group_size=STUDY.group_size,
        track=STUDY.track,
        device=STUDY.device,
    message:
        "folds' ablation on {wildcards.model}: {wildcards.file}, {wildcards.method}, {wildcards.bits} bits"
    shell:
        'lease python -m ramp.league.fold_ablation --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --tokens {params.tokens:q} --length {params.length:q} --fold {input.fold:q} --name {params.name:q} {params.method}"
        " --bits {wildcards.bits:q} --group-size {params.group_size:q} --track {params.track:q}"
        " --reference {input.reference:q} --out {output.row:q} --threads {threads} --device {params.device:q} > {log:q} 2>&1"


rule fold_collect:
    """The rows of the ablation as tables."""
    input:
        runs=taken((file, PLAN.folds.partial) for file in FILES.fold_runs()),
        code=sources("ramp/records/collect_folding.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=FOLD_RECORDS),
    log:
        "<logs>/fold_collect.log",
    localrule: True
    conda:
        "../envs/main.yml"
    message:
        "collecting the folds' ablation"
    shell:
        'python -m ramp.records.collect_folding --runs {input.runs:q} --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule fold_ablation:
    """Scale Folding's ablation: folding.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=FOLD_RECORDS),
        "<results>/config.json",
    localrule: True
