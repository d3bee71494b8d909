# Mixed allocations within a budget of bytes: one search per model, method, budget and seed.


rule search:
    """An allocation. The state lies in R/.state, undeclared, so that a killed search resumes where it stopped."""
    input:
        model=by(FILES.checkpoint),
        bank=below("bank/{calibrated}/{bank}/bank.safetensors", calibrated=FILES.calibrated, bank=PLAN.bank_of),
        bank_index=below("bank/{calibrated}/{bank}/bank.json", calibrated=FILES.calibrated, bank=PLAN.bank_of),
        fold=below("folds/{calibrated}/{fold}.safetensors", calibrated=FILES.calibrated, fold=PLAN.fold_of),
        calibration=below("calibration/{calibrated}.safetensors", calibrated=FILES.calibrated),
        sensitivity=below("sensitivity/{model}/{file}", file=PLAN.sensitivities_of),
        search_text=by(FILES.text, role="search"),
        selection_text=by(FILES.text, role="selection"),
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/search/__main__.py"),
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
        episodes_sha256="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl.sha256",
        summary="<results>/search/{model}/{method}/{budget}/{seed}/summary.txt",
    log:
        "<logs>/search/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(sorted({*PLAN.allocators} - {*PLAN.learned})),
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("search"),
    params:
        study=STUDY.study,
        windows=STUDY.search.windows,
        length=STUDY.search.length,
        selection=STUDY.search.selection_windows or 0,
        method=by(VALUES.method),
        evals=by(VALUES.of_model, source=LIMITS.evals, target=LIMITS.target_evals),
        state=folder(".state"),
        arithmetic=ARITHMETIC,
    message:
        "searching {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
    shell:
        'gpu_lease python -m ramp.search --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.bank:q})" --fold {input.fold:q} --calibration {input.calibration:q}'
        " --sensitivity {input.sensitivity:q} --search-text {input.search_text:q}"
        " --selection-text {input.selection_text:q} --search-windows {params.windows:q}"
        " --search-length {params.length:q} --selection-windows {params.selection:q} {params.method:q}"
        " --budget {wildcards.budget:q} --evals {params.evals:q} --seed {wildcards.seed:q} --study {params.study:q}"
        ' --out {output.allocation:q} --artifacts "$(dirname {output.episodes:q})" --state-dir {params.state:q}'
        " --threads {threads} {params.arithmetic:q} > {log:q} 2>&1"


# A search that leaves a policy, too.
use rule search as learn with:
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        episodes="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl",
        episodes_sha256="<results>/search/{model}/{method}/{budget}/{seed}/episodes.jsonl.sha256",
        summary="<results>/search/{model}/{method}/{budget}/{seed}/summary.txt",
        policy="<results>/search/{model}/{method}/{budget}/{seed}/policy.safetensors",
        policy_index="<results>/search/{model}/{method}/{budget}/{seed}/policy.json",
    log:
        "<logs>/learn/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.learned),
    message:
        "learning on {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, seed {wildcards.seed}"
