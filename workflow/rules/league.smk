# Allocators against each other on one bank. Part of a study that has a section `league`; `snakemake league` makes its
# tables alone.


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


rule league:
    """The league: league.csv with its windows and curves."""
    input:
        expand("<results>/records/{record}.csv", record=LEAGUE_RECORDS),
        "<results>/config.json",
    localrule: True
