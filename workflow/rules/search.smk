# Mixed allocations within a budget of bytes: one search per model, method, budget and seed.


rule search:
    """An allocation. The state lies in R/.state, undeclared, so that a killed search resumes where it stopped."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=by(FILES.bank),
        bank_index=by(FILES.bank_index),
        fold=by(FILES.fold),
        calibration="<results>/calibration/{model}.safetensors",
        sensitivity=by(FILES.sensitivity),
        search_text="<results>/texts/search.jsonl",
        selection_text="<results>/texts/selection.jsonl",
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/search/__main__.py"),
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
    log:
        "<logs>/search/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(sorted({*PLAN.of_kind(Allocator)} - {*PLAN.learned})),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        study=STUDY.study,
        windows=STUDY.search.windows,
        length=STUDY.search.length,
        selection=STUDY.search.selection_windows or 0,
        file=by(VALUES.reference),
        method=by(VALUES.params),
        evals=by(VALUES.of_model, source=LIMITS.evals, target=LIMITS.target_evals),
        state=by(FILES.folder, name=".state"),
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "searching {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
    shell:
        'lease python -m ramp.search --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.bank:q})" --fold {input.fold:q} --calibration {input.calibration:q}'
        " --sensitivity {input.sensitivity:q} --search-text {input.search_text:q}"
        " --selection-text {input.selection_text:q} --search-windows {params.windows:q}"
        " --search-length {params.length:q} --selection-windows {params.selection:q} --method-file {params.file:q} --params {params.method:q}"
        " --budget {wildcards.budget:q} --evals {params.evals:q} --seed {wildcards.seed:q} --study {params.study:q}"
        ' --out {output.allocation:q} --artifacts "$(dirname {output.episodes:q})" --state-dir {params.state:q}'
        " --threads {threads} --device {params.device:q} --dtype {params.dtype:q} > {log:q} 2>&1"


use rule search as learn with:
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
        policy="<results>/search/{model}/{method}/{budget}/{seed}/policy.safetensors",
        policy_index="<results>/search/{model}/{method}/{budget}/{seed}/policy.json",
    log:
        "<logs>/learn/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.learned),
    message:
        "learning on {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
