# Sensitivities other than Fisher's: weight errors and measured single-linear KL, where a planned method names them.


rule proxy:
    """Additive sensitivities of one kind, on calibration text (ramp.sensitivity.weight_error, ramp.sensitivity.measured_kl)."""
    input:
        model="<results>/models/{model}/asset.json",
        weights="<results>/bank/{model}/{fold}-{quantizer}/bank.safetensors",
        index="<results>/bank/{model}/{fold}-{quantizer}/bank.json",
        fold="<results>/folds/{model}/{fold}.safetensors",
        text="<results>/texts/calibration.jsonl",
        code=proxy_sources,
    output:
        proxy="<results>/sensitivity/{model}/{fold}-{quantizer}-{proxy}.json",
    log:
        "<logs>/sensitivity/{model}/{fold}-{quantizer}-{proxy}.log",
    benchmark:
        "<benchmarks>/sensitivity/{model}/{fold}-{quantizer}-{proxy}.tsv"
    wildcard_constraints:
        proxy=any_of(PROXIES[1:]),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=2 * STUDY.memory_mb,
        gpu=GPUS,
    params:
        module=proxy_module,
        windows=sensitivity_windows,
        length=STUDY.sensitivity.length,
        device=STUDY.device,
    message:
        "sensitivities of {wildcards.model}: {wildcards.proxy}"
    shell:
        "lease python -m ramp.{params.module} --kind {wildcards.proxy} --model-dir $(dirname {input.model})"
        " --bank $(dirname {input.weights}) --fold {input.fold} --text {input.text} --windows {params.windows}"
        " --length {params.length} --out {output.proxy} --threads {threads} --device {params.device} > {log} 2>&1"
