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
        places=fold_places,
        device=STUDY.device,
    message:
        "float reference of {wildcards.model} for the folds' ablation"
    shell:
        "lease python -m ramp.evaluation reference --model-dir $(dirname {input.model}) --text heldout={input.text}"
        " {params.places} --out {output.states} --threads {threads} --device {params.device} --dtype float32"
        " > {log} 2>&1"


rule fold_run:
    """One uniform row on one fold, quantized as every final row is and scored."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        fold="<results>/folds/{model}/{file}.safetensors",
        reference="<results>/fold_ablation/{model}/reference.safetensors",
        method=fold_run_method,
        code=fold_run_sources,
    output:
        row="<results>/fold_ablation/{model}/{file}/{method}-b{bits}.json",
    log:
        "<logs>/fold_run/{model}/{file}-{method}-b{bits}.log",
    benchmark:
        "<benchmarks>/fold_run/{model}/{file}-{method}-b{bits}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        name=fold_run_name,
        method=fold_run_options,
        tokens=calibration_tokens,
        length=STUDY.calibration.length,
        group_size=STUDY.group_size,
        track=STUDY.track,
        device=STUDY.device,
    message:
        "folds' ablation on {wildcards.model}: {wildcards.file}, {wildcards.method}, {wildcards.bits} bits"
    shell:
        "lease python -m ramp.league.fold_ablation --model-dir $(dirname {input.model}) --text {input.text}"
        " --tokens {params.tokens} --length {params.length} --fold {input.fold} --name {params.name} {params.method}"
        " --bits {wildcards.bits} --group-size {params.group_size} --track {params.track}"
        " --reference {input.reference} --out {output.row} --threads {threads} --device {params.device} > {log} 2>&1"


rule fold_collect:
    """The rows of the ablation as tables."""
    input:
        runs=fold_run_files,
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
        "python -m ramp.records.collect_folding --runs {input.runs} --out $(dirname {output.tables[0]}) > {log} 2>&1"


rule fold_ablation:
    """Scale Folding's ablation: folding.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=FOLD_RECORDS),
        "<results>/config.json",
    localrule: True
