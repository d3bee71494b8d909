# Scale Folding varied and nothing else: uniform rows of every quantizer on every fold, apart from the study's rows.


# The float model on the ablation's held-out windows, in float32: bfloat16 would hide what a fold alone changes.
use rule reference as fold_reference with:
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/heldout.jsonl",
        code=sources("ramp/evaluation/__main__.py"),
    output:
        states="<results>/fold_ablation/{model}/reference.safetensors",
    log:
        "<logs>/fold_reference/{model}.log",
    resources:
        **planned_for("fold_reference"),
    params:
        text="heldout",
        length=by(VALUES.fold_text, key="length"),
        windows=by(VALUES.fold_text, key="windows"),
        arithmetic=[*COMPUTING, "--dtype", "float32"],
    message:
        "float reference of {wildcards.model} for the folds' ablation"


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
    threads: STUDY.threads
    resources:
        **planned_for("fold_run"),
    params:
        name=by(PLAN.folds.fold_of),
        method=by(VALUES.fold_run),
        calibration=by(VALUES.calibration),
        group_size=STUDY.group_size,
        track=STUDY.track,
        computing=COMPUTING,
    message:
        "folds' ablation on {wildcards.model}: {wildcards.file}, {wildcards.method}, {wildcards.bits} bits"
    shell:
        'gpu_lease python -m ramp.league.fold_ablation --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " {params.calibration:q} --fold {input.fold:q} --name {params.name:q} {params.method:q}"
        " --bits {wildcards.bits:q} --group-size {params.group_size:q} --track {params.track:q}"
        " --reference {input.reference:q} --out {output.row:q} --threads {threads} {params.computing:q} > {log:q} 2>&1"


rule fold_collect:
    """The rows of the ablation as tables."""
    input:
        runs=taken(PLAN.folds.files),
        code=sources("ramp/records/collect_folding.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["fold_ablation"]),
    log:
        "<logs>/fold_collect.log",
    localrule: True
    message:
        "collecting the folds' ablation"
    shell:
        'python -m ramp.records.collect_folding --runs {input.runs:q} --out "$(dirname {output.tables[0]:q})"'
        " > {log:q} 2>&1"


rule fold_ablation:
    """Scale Folding's ablation: folding.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["fold_ablation"]),
        "<results>/config.json",
    localrule: True
