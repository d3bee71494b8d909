# Policies that were learned on the source model, applied to another model without change.


POLICY = f"search/{STUDY.source}/{{base}}/{{budget}}/{{seed}}/policy"


rule transfer:
    """An allocation for a target model from the source's policy, without one evaluation."""
    input:
        model="<results>/models/{model}/asset.json",
        policy=below(f"{POLICY}.safetensors", base=PLAN.base_of),
        policy_index=below(f"{POLICY}.json", base=PLAN.base_of),
        bank=below("bank/{model}/{bank}/bank.safetensors", bank=PLAN.bank_of),
        bank_index=below("bank/{model}/{bank}/bank.json", bank=PLAN.bank_of),
        fold=below("folds/{model}/{fold}.safetensors", fold=PLAN.fold_of),
        calibration="<results>/calibration/{model}.safetensors",
        code=sources("ramp/search/transfer.py"),
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
    log:
        "<logs>/transfer/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        model=any_of(STUDY.targets),
        method=any_of(PLAN.transferred),
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("transfer"),
    params:
        study=STUDY.study,
        source=STUDY.source,
        group_size=STUDY.group_size,
        computing=COMPUTING,
    message:
        "{wildcards.method} from {params.source} to {wildcards.model}: {wildcards.budget} bits, seed {wildcards.seed}"
    shell:
        'python -m ramp.search.transfer --policy "$(dirname {input.policy:q})" --source {params.source:q}'
        ' --model-dir "$(dirname {input.model:q})" --bank "$(dirname {input.bank:q})" --fold {input.fold:q}'
        " --calibration {input.calibration:q} --budget {wildcards.budget:q} --group-size {params.group_size:q}"
        " --seed {wildcards.seed:q} --study {params.study:q} --out {output.allocation:q} --threads {threads}"
        " {params.computing:q} > {log:q} 2>&1"
