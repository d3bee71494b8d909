# The float model against itself: how far rounding alone moves KL and perplexity. `snakemake noise` makes the table.


rule noise_run:
    """The float model on held-out text under one other condition, against its own reference."""
    input:
        model="<results>/models/{model}/asset.json",
        reference="<results>/reference/{model}/heldout.safetensors",
        code=sources("ramp/evaluation/noise_floor.py"),
    output:
        noise="<results>/noise/{model}/{variation}.json",
    log:
        "<logs>/noise/{model}/{variation}.log",
    wildcard_constraints:
        model=any_of(PLAN.noise.models),
        variation=any_of(VARIATIONS),
    threads: lambda wildcards: VARIATIONS[wildcards.variation].threads or STUDY.threads
    resources:
        **planned_for("noise_run"),
    params:
        options=by(PLAN.noise.options),
    message:
        "the float {wildcards.model} against itself: {wildcards.variation}"
    shell:
        'gpu_lease python -m ramp.evaluation.noise_floor --model-dir "$(dirname {input.model:q})"'
        " --reference {input.reference:q} {params.options:q} --out {output.noise:q} > {log:q} 2>&1"


rule noise_collect:
    """Every variation as a table."""
    input:
        runs=PLAN.noise.files(),
        code=sources("ramp/records/collect_noise.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["noise"]),
    log:
        "<logs>/noise_collect.log",
    localrule: True
    message:
        "collecting the float model against itself"
    shell:
        'python -m ramp.records.collect_noise --runs {input.runs:q} --out "$(dirname {output.tables[0]:q})"'
        " > {log:q} 2>&1"


rule noise:
    """The noise floor of KL and perplexity: noise.csv."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["noise"]),
        "<results>/config.json",
    localrule: True
