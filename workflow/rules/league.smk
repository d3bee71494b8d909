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
    threads: STUDY.threads
    resources:
        **planned_for("acceptance"),
    params:
        windows=PLAN.league.search().windows,
        length=PLAN.league.search().length,
        bits=PLAN.league.section.accept.bits,
        increase=PLAN.league.section.accept.increase,
        group_size=STUDY.group_size,
        arithmetic=ARITHMETIC,
    message:
        "is {wildcards.model} worth quantizing?"
    shell:
        'gpu_lease python -m ramp.league.acceptance --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --windows {params.windows:q} --length {params.length:q} --bits {params.bits:q}"
        " --group-size {params.group_size:q}"
        " --increase {params.increase:q} --out {output.record:q}"
        " --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


rule league_run:
    """One search of the league, read at its checkpoints; its state lies in R/.state, as that of every search."""
    input:
        model=by(FILES.checkpoint),
        bank=below("bank/{model}/{bank}/bank.safetensors", bank=PLAN.bank_of),
        bank_index=below("bank/{model}/{bank}/bank.json", bank=PLAN.bank_of),
        fold=below("folds/{model}/{fold}.safetensors", fold=PLAN.fold_of),
        calibration="<results>/calibration/{model}.safetensors",
        sensitivity=below("sensitivity/{model}/{file}", file=PLAN.sensitivities_of),
        search_text="<results>/texts/search.jsonl",
        selection_text="<results>/texts/selection.jsonl",
        heldout_text="<results>/texts/heldout.jsonl",
        accepted=by(FILES.accepted),
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/league/__main__.py"),
    output:
        run="<results>/league/{model}/{method}/{budget}/{evals}/{seed}.json",
    log:
        "<logs>/league/{model}/{method}-b{budget}-e{evals}-s{seed}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("league_run"),
    params:
        run=by(VALUES.league_run),
        method=by(VALUES.method),
        title=by(VALUES.title),
        accepted=option("--accepted", "accepted"),
        draw=by(VALUES.draw),
        state=folder(".state"),
        arithmetic=ARITHMETIC,
    message:
        "league on {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, {wildcards.evals} evaluations,"
        " seed {wildcards.seed}"
    shell:
        'gpu_lease python -m ramp.league --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.bank:q})" --fold {input.fold:q} --calibration {input.calibration:q}'
        " --sensitivity {input.sensitivity:q} --search-text {input.search_text:q}"
        " --selection-text {input.selection_text:q} --heldout-text {input.heldout_text:q} {params.run:q}"
        " {params.method:q} --name {wildcards.method:q} {params.title:q} {params.draw:q} --budget {wildcards.budget:q}"
        " --evals {wildcards.evals:q} --seed {wildcards.seed:q} {params.accepted:q}"
        " --out {output.run:q} --state-dir {params.state:q}"
        " --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


rule league_collect:
    """The runs of the league as tables; missing runs have no row."""
    input:
        runs=taken(PLAN.league.files),
        code=sources("ramp/records/collect_league.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["league"]),
    log:
        "<logs>/league_collect.log",
    localrule: True
    params:
        runs=by(VALUES.league_words),
        planned=len(PLAN.league.runs),
    message:
        "collecting the league"
    shell:
        "printf '%s\\n' {params.runs:q} |"
        " python -m ramp.records.collect_league league --runs-from - --planned {params.planned:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule league:
    """The league: league.csv with its windows and curves."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["league"]),
        "<results>/config.json",
    localrule: True
