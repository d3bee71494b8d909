# Allocators against the exact optimum of a small problem. Part of a study that has a section `optimum`; `snakemake
# optimum` makes its tables alone.


rule enumeration:
    """Every allocation of a problem that is small enough, scored; continued after a kill."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=below("bank/{model}/{bank}/bank.safetensors", bank=PLAN.league.bank),
        bank_index=below("bank/{model}/{bank}/bank.json", bank=PLAN.league.bank),
        fold=below("folds/{model}/{fold}.safetensors", fold=PLAN.league.fold),
        calibration="<results>/calibration/{model}.safetensors",
        text="<results>/texts/search.jsonl",
        code=sources("ramp/optimum/__main__.py"),
    output:
        index="<results>/optimum/{model}/{units}.json",
        scores="<results>/optimum/{model}/{units}.safetensors",
    log:
        "<logs>/optimum/{model}-{units}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("enumeration"),
    params:
        problem=by(VALUES.enumeration),
        state=folder(".state"),
        computing=COMPUTING,
    message:
        "enumerating {wildcards.units} of {wildcards.model}"
    shell:
        'python -m ramp.optimum --model-dir "$(dirname {input.model:q})" --bank "$(dirname {input.bank:q})"'
        " --fold {input.fold:q} --calibration {input.calibration:q} --text {input.text:q} {params.problem:q}"
        " --units {wildcards.units:q} --state-dir {params.state:q}"
        " --out {output.index:q} --threads {threads} {params.computing:q} > {log:q} 2>&1"


rule optimum_run:
    """One allocator on an enumerated problem: all budgets and seeds, every evaluation looked up."""
    input:
        index="<results>/optimum/{model}/{units}.json",
        scores="<results>/optimum/{model}/{units}.safetensors",
        sensitivity=below("sensitivity/{model}/{file}", file=PLAN.sensitivities_of),
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/optimum/run.py"),
    output:
        runs="<results>/optimum/{model}/{units}/{method}.json",
    log:
        "<logs>/optimum/{model}-{units}-{method}.log",
    threads: STUDY.threads
    params:
        method=by(VALUES.method),
        title=by(VALUES.title),
        runs=by(VALUES.optimum_run),
        computing=COMPUTING,
    message:
        "{wildcards.method} against the optimum of {wildcards.units} of {wildcards.model}"
    shell:
        "python -m ramp.optimum.run --enumeration {input.index:q} --sensitivity {input.sensitivity:q}"
        " {params.method:q} --name {wildcards.method:q} {params.title:q} {params.runs:q} --out {output.runs:q}"
        " --threads {threads} {params.computing:q} > {log:q} 2>&1"


rule optimum_collect:
    """The gaps to the optimum, and how additive the loss is, as tables."""
    input:
        runs=by(FILES.optimum_runs),
        enumerations=by(FILES.enumerated),
        code=sources("ramp/records/collect_league.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["optimum"]),
    log:
        "<logs>/optimum_collect.log",
    localrule: True
    message:
        "collecting the gaps to the optimum"
    shell:
        "python -m ramp.records.collect_league optimum --runs {input.runs:q} --tables {input.enumerations:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule optimum:
    """Allocators against the exact optimum: optimum.csv and additivity.csv."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["optimum"]),
        "<results>/config.json",
    localrule: True
