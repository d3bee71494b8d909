# From calibration text: activation statistics, folds, the bank of every linear at every width, its sensitivities.


rule calibration:
    """Per-channel statistics of every linear's input, on the float model."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        code=sources("ramp/calibration/__main__.py"),
    output:
        statistics="<results>/calibration/{model}.safetensors",
    log:
        "<logs>/calibration/{model}.log",
    benchmark:
        "<benchmarks>/calibration/{model}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        tokens=by(VALUES.of_model, source=STUDY.calibration.tokens, target=STUDY.calibration.target_tokens),
        length=STUDY.calibration.length,
        device=STUDY.device,
    message:
        "calibrating {wildcards.model} on {params.tokens} tokens"
    shell:
        'lease python -m ramp.calibration --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --tokens {params.tokens:q} --length {params.length:q} --out {output.statistics:q}"
        " --threads {threads} --device {params.device:q} > {log:q} 2>&1"


rule fold:
    """Scale Folding: one s per site, for all widths or (``awq_w4``) for uniform rows of one."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        code=sources("ramp/calibration/fold_search.py"),
    output:
        fold="<results>/folds/{model}/{fold}.safetensors",
    log:
        "<logs>/fold/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/fold/{model}/{fold}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        tokens=by(VALUES.of_model, source=STUDY.calibration.tokens, target=STUDY.calibration.target_tokens),
        length=STUDY.calibration.length,
        options=by(VALUES.fold_options),
        group_size=STUDY.group_size,
        device=STUDY.device,
    message:
        "folding {wildcards.model}: {wildcards.fold}"
    shell:
        'lease python -m ramp.calibration.fold_search --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --tokens {params.tokens:q} --length {params.length:q} {params.options:q}"
        " --group-size {params.group_size:q} --out {output.fold:q}"
        " --threads {threads} --device {params.device:q} > {log:q} 2>&1"


rule bank:
    """Every linear at every width of the menu, quantized once and packed."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        fold="<results>/folds/{model}/{fold}.safetensors",
        code=sources("ramp/bank/__main__.py"),
    output:
        weights="<results>/bank/{model}/{fold}-{quantizer}/bank.safetensors",
        index="<results>/bank/{model}/{fold}-{quantizer}/bank.json",
    log:
        "<logs>/bank/{model}/{fold}-{quantizer}.log",
    benchmark:
        "<benchmarks>/bank/{model}/{fold}-{quantizer}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
        gpu=GPUS,
    params:
        tokens=by(VALUES.of_model, source=STUDY.calibration.tokens, target=STUDY.calibration.target_tokens),
        length=STUDY.calibration.length,
        widths=STUDY.widths,
        group_size=STUDY.group_size,
        device=STUDY.device,
    message:
        "bank of {wildcards.model}: {wildcards.fold} fold, {wildcards.quantizer}, widths {params.widths}"
    shell:
        'lease python -m ramp.bank --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --tokens {params.tokens:q} --length {params.length:q} --fold {input.fold:q} --quantizer {wildcards.quantizer:q}"
        ' --widths {params.widths:q} --group-size {params.group_size:q} --out "$(dirname {output.weights:q})"'
        " --threads {threads} --device {params.device:q} > {log:q} 2>&1"


rule sensitivity:
    """Additive Fisher proxy of every linear at every width."""
    input:
        model="<results>/models/{model}/asset.json",
        weights="<results>/bank/{model}/{fold}-{quantizer}/bank.safetensors",
        index="<results>/bank/{model}/{fold}-{quantizer}/bank.json",
        fold="<results>/folds/{model}/{fold}.safetensors",
        text="<results>/texts/search.jsonl",
        code=sources("ramp/sensitivity/__main__.py"),
    output:
        proxy="<results>/sensitivity/{model}/{fold}-{quantizer}.json",
    log:
        "<logs>/sensitivity/{model}/{fold}-{quantizer}.log",
    benchmark:
        "<benchmarks>/sensitivity/{model}/{fold}-{quantizer}.tsv"
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=2 * STUDY.memory_mb,
        gpu=GPUS,
    params:
        windows=by(VALUES.of_model, source=STUDY.sensitivity.windows, target=STUDY.sensitivity.target_windows),
        length=STUDY.sensitivity.length,
        device=STUDY.device,
    message:
        "Fisher sensitivities of {wildcards.model}"
    shell:
        'lease python -m ramp.sensitivity --model-dir "$(dirname {input.model:q})" --bank "$(dirname {input.weights:q})"'
        " --fold {input.fold:q} --text {input.text:q} --windows {params.windows:q} --length {params.length:q}"
        " --out {output.proxy:q} --threads {threads} --device {params.device:q} > {log:q} 2>&1"
