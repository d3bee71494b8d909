# Allocators against each other on one bank, and against the exact optimum of a small problem. Part of a study that has
# a section `league` or `optimum`; `snakemake league` and `snakemake optimum` make their tables alone.


rule acceptance:
    """Whether a model that was trained here loses enough to rounding to be worth quantizing; recorded either way."""
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
        "lease python -m ramp.league.acceptance --model-dir $(dirname {input.model}) --text {input.text}"
        " --windows {params.windows} --length {params.length} --bits {params.bits} --group-size {params.group_size}"
        " --increase {params.increase} --out {output.record}"
        " --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


rule league_run:
    """One search of the league, read at its checkpoints. Checkpoints of its own lie in R/.state, as every search's."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=league_bank,
        bank_index=league_bank_index,
        fold=league_fold,
        calibration="<results>/calibration/{model}.safetensors",
        sensitivity=league_sensitivity,
        search_text="<results>/texts/search.jsonl",
        selection_text="<results>/texts/selection.jsonl",
        heldout_text="<results>/texts/heldout.jsonl",
        accepted=league_accepted,
        method=league_method_file,
        code=league_sources,
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
        search=league_search,
        method=league_parameters,
        title=league_title,
        checkpoints=league_checkpoints,
        heldout=league_heldout,
        points=league_points,
        accepted=accepted_option,
        state=state_folder,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "league on {wildcards.model}: {wildcards.allocator}, {wildcards.budget} bits, {wildcards.evals} evaluations,"
        " seed {wildcards.seed}"
    shell:
        "lease python -m ramp.league --model-dir $(dirname {input.model})"
        " --bank $(dirname {input.bank}) --fold {input.fold} --calibration {input.calibration}"
        " --sensitivity {input.sensitivity} --search-text {input.search_text}"
        " --selection-text {input.selection_text} {params.search} --method-file {input.method}"
        " --params {params.method}"
        " --budget {wildcards.budget} --evals {wildcards.evals} --checkpoints {params.checkpoints}"
        " --seed {wildcards.seed} --heldout-text {input.heldout_text} {params.heldout}"
        " --curve-points {params.points} --name {wildcards.allocator} --title {params.title} {params.accepted}"
        " --out {output.run} --state-dir {params.state}"
        " --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


rule league_collect:
    """The runs of the league as tables; those that are not there have no row."""
    input:
        runs=league_files,
        code=sources("ramp/records/collect_league.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=LEAGUE_RECORDS),
    log:
        "<logs>/league_collect.log",
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        runs=league_words,
        planned=league_planned,
    message:
        "collecting the league"
    shell:
        "printf '%s\\n' {params.runs} |"
        " python -m ramp.records.collect_league league --runs-from - --planned {params.planned}"
        " --out $(dirname {output.tables[0]}) > {log} 2>&1"


rule enumeration:
    """Every allocation of a problem that is small enough, scored; continued after a kill."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=optimum_bank,
        bank_index=optimum_bank_index,
        fold=optimum_fold,
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
        places=optimum_places,
        widths=optimum_widths,
        state=state_folder,
    message:
        "enumerating {wildcards.units} of {wildcards.model}"
    shell:
        "python -m ramp.optimum --model-dir $(dirname {input.model}) --bank $(dirname {input.bank})"
        " --fold {input.fold} --calibration {input.calibration} --text {input.text} {params.places}"
        " --units {wildcards.units} --widths {params.widths} --state-dir {params.state}"
        " --out {output.index} --threads {threads} > {log} 2>&1"


rule optimum_run:
    """One allocator on an enumerated problem: all budgets and seeds, every evaluation looked up."""
    input:
        index="<results>/optimum/{model}/{units}.json",
        scores="<results>/optimum/{model}/{units}.safetensors",
        sensitivity=league_sensitivity,
        method=league_method_file,
        code=optimum_sources,
    output:
        runs="<results>/optimum/{model}/{units}/{allocator}.json",
    log:
        "<logs>/optimum/{model}-{units}-{allocator}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    params:
        method=league_parameters,
        title=league_title,
        budgets=optimum_budgets,
        checkpoints=optimum_checkpoints,
        seeds=optimum_seeds,
    message:
        "{wildcards.allocator} against the optimum of {wildcards.units} of {wildcards.model}"
    shell:
        "python -m ramp.optimum.run --enumeration {input.index} --sensitivity {input.sensitivity}"
        " --method-file {input.method} --params {params.method} --name {wildcards.allocator} --title {params.title}"
        " --budgets {params.budgets} --checkpoints {params.checkpoints} --seeds {params.seeds}"
        " --out {output.runs} --threads {threads} > {log} 2>&1"


rule optimum_collect:
    """The gaps to the optimum, and how additive the loss is, as tables."""
    input:
        runs=optimum_files,
        enumerations=optimum_enumerations,
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
        "python -m ramp.records.collect_league optimum --runs {input.runs} --tables {input.enumerations}"
        " --out $(dirname {output.tables[0]}) > {log} 2>&1"


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
