# The bank: every linear at every width, quantized once.


rule bank:
    """Every linear at every width of the menu, quantized once and packed."""
    input:
        model=by(FILES.checkpoint),
        text=by(FILES.text, role="calibration"),
        fold="<results>/folds/{model}/{fold}.safetensors",
        code=sources("ramp/bank/__main__.py"),
    output:
        weights=passing("<results>/bank/{model}/{fold}-{quantizer}/bank.safetensors"),
        index="<results>/bank/{model}/{fold}-{quantizer}/bank.json",
    log:
        "<logs>/bank/{model}/{fold}-{quantizer}.log",
    threads: STUDY.threads
    resources:
        **planned_for("bank"),
    params:
        calibration=by(VALUES.calibration),
        widths=STUDY.widths,
        group_size=STUDY.group_size,
        computing=COMPUTING,
    message:
        "bank of {wildcards.model}: {wildcards.fold} fold, {wildcards.quantizer}, widths {params.widths}"
    shell:
        'gpu_lease python -m ramp.bank --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " {params.calibration:q} --fold {input.fold:q} --quantizer {wildcards.quantizer:q}"
        ' --widths {params.widths:q} --group-size {params.group_size:q} --out "$(dirname {output.weights:q})"'
        " --threads {threads} {params.computing:q} > {log:q} 2>&1"
