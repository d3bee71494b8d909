# Finished rows with their scales tuned, beside the rows that they come from. `snakemake tuning` makes the table alone.


rule tune:
    """A row's float16 scales and norm gains trained by KL to the float model; codes and size stay. Checkpoints lie in
    R/.state, undeclared, so that a killed job resumes where it stopped."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights="<results>/quantized/{model}/{row}/model.safetensors",
        model=by(FILES.checkpoint),
        calibration="<results>/texts/calibration.jsonl",
        train="<results>/texts/train.jsonl",
        code=sources("ramp/rows/tune.py"),
    output:
        meta="<results>/quantized/{model}/{row}-tuned/meta.json",
        weights=passing("<results>/quantized/{model}/{row}-tuned/model.safetensors"),
    log:
        "<logs>/tune/{model}/{row}-tuned.log",
    wildcard_constraints:
        row=any_of(PLAN.tuning.bases),
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("tune"),
    params:
        options=by(PLAN.tuning.options),
        state=folder(".state/tuning"),
        computing=COMPUTING,
    message:
        "tuning the scales of {wildcards.model}: {wildcards.row}"
    shell:
        'gpu_lease python -m ramp.rows.tune --row-dir "$(dirname {input.meta:q})"'
        ' --model-dir "$(dirname {input.model:q})" --text {input.calibration:q} {input.train:q} {params.options:q}'
        ' --state-dir {params.state:q} --out "$(dirname {output.meta:q})" --threads {threads} {params.computing:q}'
        " > {log:q} 2>&1"


rule tuning_collect:
    """Every tuned row beside its own, as tables."""
    input:
        rows=taken(PLAN.tuning.taken),
        code=sources("ramp/records/collect_tuning.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["tuning"]),
    log:
        "<logs>/tuning_collect.log",
    localrule: True
    params:
        rows=by(PLAN.tuning.words),
    message:
        "collecting the rows with tuned scales"
    shell:
        "python -m ramp.records.collect_tuning --rows {params.rows:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule tuning:
    """Rows with tuned scales: tuning.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["tuning"]),
        "<results>/config.json",
    localrule: True
