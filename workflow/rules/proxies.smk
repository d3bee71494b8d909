# Sensitivities other than Fisher's: weight errors and measured single-linear KL, where a planned method names them.


rule proxy:
    """Additive sensitivities of one kind, on calibration text (ramp.sensitivity.weight_error, ramp.sensitivity.measured_kl)."""
    input:
        model="<results>/models/{model}/asset.json",
        weights="<results>/bank/{model}/{fold}-{quantizer}/bank.safetensors",
        index="<results>/bank/{model}/{fold}-{quantizer}/bank.json",
        fold="<results>/folds/{model}/{fold}.safetensors",
        text="<results>/texts/calibration.jsonl",
        code=by(FILES.proxy_stage),
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
        module=by(proxy_module),
        windows=by(VALUES.of_model, source=STUDY.sensitivity.windows, target=STUDY.sensitivity.target_windows),
        length=STUDY.sensitivity.length,
        device=STUDY.device,
    message:
        "sensitivities of {wildcards.model}: {wildcards.proxy}"
    shell:
        'lease python -m ramp.{params.module:q} --kind {wildcards.proxy:q} --model-dir "$(dirname {input.model:q})"'
        ' --bank "$(dirname {input.weights:q})" --fold {input.fold:q} --text {input.text:q} --windows {params.windows:q}'
        " --length {params.length:q} --out {output.proxy:q} --threads {threads} --device {params.device:q} > {log:q} 2>&1"
