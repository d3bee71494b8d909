# Policies that were learned on the source model, applied untouched to another model.


rule transfer:
    """An allocation for a target model from the source's policy, without one evaluation."""
    input:
        model="<results>/models/{model}/asset.json",
        policy=policy_file,
        policy_index=policy_index,
        bank=transfer_bank,
        fold=transfer_fold,
        calibration="<results>/calibration/{model}.safetensors",
        code=sources("ramp/search/transfer.py"),
    output:
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
    log:
        "<logs>/transfer/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        model=any_of(STUDY.targets),
        method=any_of(PLAN.transferred),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    params:
        study=STUDY.study,
        source=STUDY.source,
        group_size=STUDY.group_size,
        device=STUDY.device,
    message:
        "{wildcards.method} from {params.source} to {wildcards.model}: {wildcards.budget} bits, seed {wildcards.seed}"
    shell:
        "python -m ramp.search.transfer --policy $(dirname {input.policy}) --source {params.source}"
        " --model-dir $(dirname {input.model}) --bank $(dirname {input.bank}) --fold {input.fold}"
        " --calibration {input.calibration} --budget {wildcards.budget} --group-size {params.group_size}"
        " --seed {wildcards.seed} --study {params.study} --out {output.allocation} --threads {threads}"
        " --device {params.device} > {log} 2>&1"
