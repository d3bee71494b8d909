# Allocators against each other on one bank, and against the exact optimum of a small problem. Part of a study that has
# a section `league` or `optimum`; `snakemake league` and `snakemake optimum` make their tables alone.


rule acceptance:
    """Record whether a model that the workflow trained loses enough to rounding to be worth quantizing."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/selection.jsonl",
        code=sources("ramp/league/acceptance.py"),
    output:
        record="<results>/league/{model}/accepted.json",
    log:
        "<logs>/acceptance/{model}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        windows=PLAN.league.search.windows,
        length=PLAN.league.search.length,
        bits=PLAN.league.accept.bits,
        increase=PLAN.league.accept.increase,
        group_size=STUDY.group_size,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "is {wildcards.model} worth quantizing?"
    shell:
        'lease python -m ramp.league.acceptance --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --windows {params.windows:q} --length {params.length:q} --bits {params.bits:q} --group-size {params.group_size:q}"
        " --increase {params.increase:q} --out {output.record:q}"
        " --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


rule league_run:
    """One search of the league, read at its checkpoints; its state lies in R/.state, as that of every search."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=by(FILES.bank, method="{allocator}"),
        bank_index=by(FILES.bank_index, method="{allocator}"),
        fold=by(FILES.fold, method="{allocator}"),
        calibration="<results>/calibration/{model}.safetensors",
        sensitivity=by(FILES.sensitivity, method="{allocator}"),
        search_text="<results>/texts/search.jsonl",
        selection_text="<results>/texts/selection.jsonl",
        heldout_text="<results>/texts/heldout.jsonl",
        accepted=by(FILES.accepted),
        method=by(FILES.method, method="{allocator}"),
        code=by(FILES.stage, stage="ramp/league/__main__.py", method="{allocator}"),
    output:
        run="<results>/league/{model}/{allocator}/{budget}/{evals}/{seed}.json",
    log:
        "<logs>/league/{model}/{allocator}-b{budget}-e{evals}-s{seed}.log",
    benchmark:
        "<benchmarks>/league/{model}/{allocator}-b{budget}-e{evals}-s{seed}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        search=by(VALUES.league_search),
        file=by(VALUES.reference, method="{allocator}"),
        method=by(VALUES.params, method="{allocator}"),
        title=by(VALUES.title, method="{allocator}"),
        checkpoints=by(VALUES.checkpoints),
        reading=by(VALUES.league_reading),
        accepted=option("--accepted", "accepted"),
        state=by(FILES.folder, name=".state"),
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "league on {wildcards.model}: {wildcards.allocator}, {wildcards.budget} bits, {wildcards.evals} evaluations,"
        " seed {wildcards.seed}"
    shell:
        'lease python -m ramp.league --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.bank:q})" --fold {input.fold:q} --calibration {input.calibration:q}'
        " --sensitivity {input.sensitivity:q} --search-text {input.search_text:q}"
        " --selection-text {input.selection_text:q} {params.search:q} --method-file {params.file:q}"
        " --params {params.method:q}"
        " --budget {wildcards.budget:q} --evals {wildcards.evals:q} --checkpoints {params.checkpoints:q}"
        " --seed {wildcards.seed:q} --heldout-text {input.heldout_text:q} {params.reading:q}"
        " --name {wildcards.allocator:q} --title {params.title} {params.accepted:q}"
        " --out {output.run:q} --state-dir {params.state:q}"
        " --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


rule league_collect:
    """The runs of the league as tables; missing runs have no row."""
    input:
        runs=taken((file, PLAN.league.partial) for file in FILES.league_runs()),
        code=sources("ramp/records/collect_league.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=LEAGUE_RECORDS),
    log:
        "<logs>/league_collect.log",
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        runs=by(VALUES.league_words),
        planned=len(PLAN.league.runs),
    message:
        "collecting the league"
    shell:
        "printf '%s\\n' {params.runs} |"
        " python -m ramp.records.collect_league league --runs-from - --planned {params.planned:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


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
    benchmark:
        "<benchmarks>/optimum/{model}-{units}.tsv"
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


rule league:
    """The league: league.csv with its windows and curves."""
    input:
        expand("<results>/records/{record}.csv", record=LEAGUE_RECORDS),
        "<results>/config.json",
    localrule: True


rule optimum:
    """Allocators against the exact optimum: optimum.csv and additivity.csv."""
    input:
        expand("<results>/records/{record}.csv", record=OPTIMUM_RECORDS),
        "<results>/config.json",
    localrule: True
