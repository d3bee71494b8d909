# Allocators against the exact optimum of a small problem. Part of a study that has a section `optimum`; `snakemake
# optimum` makes its tables alone.


rule enumeration:
    """Every allocation of a problem that is small enough, scored; continued after a kill."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=by(FILES.bank, method=PLAN.league.bank_method),
        bank_index=by(FILES.bank_index, method=PLAN.league.bank_method),
        fold=by(FILES.fold, method=PLAN.league.bank_method),
        calibration="<results>/calibration/{model}.safetensors",
        text="<results>/texts/search.jsonl",
        code=sources("ramp/optimum/__main__.py"),
    output:
        index="<results>/optimum/{model}/{units}.json",
        scores="<results>/optimum/{model}/{units}.safetensors",
    log:
        "<logs>/optimum/{model}-{units}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    params:
        places=by(VALUES.optimum_text),
        widths=by(VALUES.optimum, key="widths"),
        state=by(FILES.folder, name=".state"),
    message:
        "enumerating {wildcards.units} of {wildcards.model}"
    shell:
        'python -m ramp.optimum --model-dir "$(dirname {input.model:q})" --bank "$(dirname {input.bank:q})"'
        " --fold {input.fold:q} --calibration {input.calibration:q} --text {input.text:q} {params.places:q}"
        " --units {wildcards.units:q} --widths {params.widths:q} --state-dir {params.state:q}"
        " --out {output.index:q} --threads {threads} > {log:q} 2>&1"


rule optimum_run:
    """One allocator on an enumerated problem: all budgets and seeds, every evaluation looked up."""
    input:
        index="<results>/optimum/{model}/{units}.json",
        scores="<results>/optimum/{model}/{units}.safetensors",
        sensitivity=by(FILES.sensitivity, method="{allocator}"),
        method=by(FILES.method, method="{allocator}"),
        code=by(FILES.stage, stage="ramp/optimum/run.py", method="{allocator}"),
    output:
        runs="<results>/optimum/{model}/{units}/{allocator}.json",
    log:
        "<logs>/optimum/{model}-{units}-{allocator}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    params:
        file=by(VALUES.reference, method="{allocator}"),
        method=by(VALUES.params, method="{allocator}"),
        title=by(VALUES.title, method="{allocator}"),
        budgets=by(VALUES.optimum_budgets),
        checkpoints=by(VALUES.optimum, key="checkpoints"),
        seeds=by(VALUES.optimum_seeds),
    message:
        "{wildcards.allocator} against the optimum of {wildcards.units} of {wildcards.model}"
    shell:
        "python -m ramp.optimum.run --enumeration {input.index:q} --sensitivity {input.sensitivity:q}"
        " --method-file {params.file:q} --params {params.method:q} --name {wildcards.allocator:q} --title {params.title}"
        " --budgets {params.budgets:q} --checkpoints {params.checkpoints:q} --seeds {params.seeds:q}"
        " --out {output.runs:q} --threads {threads} > {log:q} 2>&1"


rule optimum_collect:
    """The gaps to the optimum, and how additive the loss is, as tables."""
    input:
        runs=by(FILES.optimum_runs),
        enumerations=by(FILES.optimum_enumerations),
        code=sources("ramp/records/collect_league.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=OPTIMUM_RECORDS),
    log:
        "<logs>/optimum_collect.log",
    localrule: True
    conda:
        "../envs/main.yml"
    message:
        "collecting the gaps to the optimum"
    shell:
        "python -m ramp.records.collect_league optimum --runs {input.runs:q} --tables {input.enumerations:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule optimum:
    """Allocators against the exact optimum: optimum.csv and additivity.csv."""
    input:
        expand("<results>/records/{record}.csv", record=OPTIMUM_RECORDS),
        "<results>/config.json",
    localrule: True
