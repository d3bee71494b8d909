# Mixed allocations within a budget of bytes: one search per model, method, budget and seed.


rule search:
    """An allocation. Checkpoints lie in R/.state, undeclared, so that a killed search goes on where it stopped."""
    input:
        model="<results>/models/{model}/asset.json",
        bank=bank_file,
        bank_index=bank_index,
        fold=fold_file,
        calibration="<results>/calibration/{model}.safetensors",
        sensitivity=sensitivity_file,
        search_text="<results>/texts/search.jsonl",
        selection_text="<results>/texts/selection.jsonl",
        method=method_file,
        code=search_sources,
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
    log:
        "<logs>/search/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/search/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of([name for name in PLAN.allocators if name not in PLAN.learned]),
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
        method=method_parameters,
        evals=evaluations,
        state=state_folder,
        device=STUDY.device,
        dtype=STUDY.dtype,
    message:
        "searching {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
    shell:
        "lease python -m ramp.search --model-dir $(dirname {input.model})"
        " --bank $(dirname {input.bank}) --fold {input.fold} --calibration {input.calibration}"
        " --sensitivity {input.sensitivity} --search-text {input.search_text}"
        " --selection-text {input.selection_text} --search-windows {params.windows}"
        " --search-length {params.length} --selection-windows {params.selection} --method-file {input.method} --params {params.method}"
        " --budget {wildcards.budget} --evals {params.evals} --seed {wildcards.seed} --study {params.study}"
        " --out {output.allocation} --artifacts $(dirname {output.episodes}) --state-dir {params.state}"
        " --threads {threads} --device {params.device} --dtype {params.dtype} > {log} 2>&1"


use rule search as learn with:
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
        policy="<results>/search/{model}/{method}/{budget}/{seed}/policy.safetensors",
        policy_index="<results>/search/{model}/{method}/{budget}/{seed}/policy.json",
    log:
        "<logs>/learn/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/learn/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of(PLAN.learned),
    message:
        "learning on {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
