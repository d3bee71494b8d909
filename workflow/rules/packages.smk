# Baselines through packages of other projects, each in its own environment. Rows of a package that cannot run on this
# machine record the reason; all other rows are made.


rule environment:
    """A venv with a package's pinned requirements, and the committed versions of what they need in turn.

    An installation that fails is recorded: delete the folder to retry.
    """
    output:
        record="<envs>/{environment}/environment.json",
    log:
        "<logs>/environment/{environment}.log",
    wildcard_constraints:
        environment=any_of(PLAN.environments),
    resources:
        **planned_for("environment"),
        downloads=1,
    params:
        requirements=lambda wildcards: PLAN.environments[wildcards.environment],
        constraints=by(VALUES.constraints),
        # by their content: a venv that holds them is kept, whatever the date of the file
        pinned=by(VALUES.pinned),
    message:
        "installing {wildcards.environment}: {params.requirements}"
    shell:
        "python -m ramp.packages.package_environment --requirements {params.requirements:q} {params.constraints:q}"
        " --out {output.record:q}"
        " > {log:q} 2>&1"


rule package:
    """One row by a package: its files, its linears, and in any case an outcome."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        counts=ancient(token_counts),
        method=by(FILES.method),
        environment=by(FILES.environment),
        code=by(FILES.stage, stage=("ramp/packages/prepare_job.py", "ramp/packages/run_job.py")),
    output:
        outcome="<results>/packages/{model}/{method}-b{budget}-s{seed}/outcome.json",
        linears=directory(passing("<results>/packages/{model}/{method}-b{budget}-s{seed}/linears")),
        native=directory(passing("<results>/packages/{model}/{method}-b{budget}-s{seed}/native")),
    log:
        "<logs>/package/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.of_kind(Package)),
    threads: STUDY.threads
    resources:
        **planned_for("package"),
    params:
        calibration=by(VALUES.calibration),
        environment=option("--environment", "environment"),
        method=by(VALUES.method),
        group_size=STUDY.group_size,
        device=STUDY.device,
    message:
        "running {wildcards.method} on {wildcards.model}, {wildcards.budget} bits"
    shell:
        'gpu_lease python -m ramp.packages.prepare_job --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " {params.calibration:q} {params.method:q} {params.environment:q}"
        " --bits {wildcards.budget:q} --group-size {params.group_size:q}"
        ' --seed {wildcards.seed:q} --out "$(dirname {output.outcome:q})" --threads {threads}'
        " --device {params.device:q} > {log:q} 2>&1"


rule package_row:
    """The result of a package as an ordinary row: its numbers bit for bit, or the reason why there are none."""
    input:
        model="<results>/models/{model}/asset.json",
        outcome="<results>/packages/{model}/{method}-b{budget}-s{seed}/outcome.json",
        linears="<results>/packages/{model}/{method}-b{budget}-s{seed}/linears",
        native="<results>/packages/{model}/{method}-b{budget}-s{seed}/native",
        code=sources("ramp/packages/record_row.py"),
    output:
        **passing_alone(weights="<results>/quantized/{model}/{method}-b{budget}-s{seed}/model.safetensors"),
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}/meta.json",
    log:
        "<logs>/package_row/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.of_kind(Package)),
    priority: READS_ROWS
    resources:
        **planned_for("package_row"),
    params:
        study=STUDY.study,
        track=STUDY.track,
        placeholder=PLACEHOLDER,
    message:
        "packing the row of {wildcards.method} on {wildcards.model}, {wildcards.budget} bits"
    shell:
        'python -m ramp.packages.record_row --model-dir "$(dirname {input.model:q})"'
        ' --job "$(dirname {input.outcome:q})"'
        ' --track {params.track:q} --study {params.study:q} --out "$(dirname {output.meta:q})" {params.placeholder:q}'
        " > {log:q} 2>&1"


rule collect_external:
    """Records of the float model and of every row that goes through a package, apart from the study's own."""
    input:
        metrics=FILES.of_rows("metrics/{model}/{row}.json", PLAN.externally_recorded),
        rows=FILES.of_rows("quantized/{model}/{row}/meta.json", PLAN.externally_recorded),
        model=f"{R}/models/{STUDY.source}/asset.json",
        code=sources("ramp/records/collect.py"),
    output:
        tables=expand("<results>/external/{record}.csv", record=RECORD_TABLES),
    log:
        "<logs>/collect_external.log",
    params:
        source=STUDY.source,
        config_hash=VALUES.config_hash(),
    message:
        "collecting the records of the packages"
    shell:
        "python -m ramp.records.collect --metrics {input.metrics:q} --rows {input.rows:q}"
        ' --models "$(dirname {input.model:q})"'
        ' --source {params.source:q} --config-hash {params.config_hash:q} --out "$(dirname {output.tables[0]:q})"'
        " > {log:q} 2>&1"


rule baselines_external:
    """Every baseline through a package, on the source model: rows and records."""
    input:
        rules.collect_external.output.tables,
    localrule: True
