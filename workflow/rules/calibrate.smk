# From calibration text: activation statistics, and the folds that are searched on it.


rule calibration:
    """Per-channel statistics of every linear's input, on the float model."""
    input:
        model=by(FILES.checkpoint),
        text=by(FILES.text, role="calibration"),
        counts=ancient(token_counts),
        code=sources("ramp/calibration/__main__.py"),
    output:
        statistics="<results>/calibration/{model}.safetensors",
    log:
        "<logs>/calibration/{model}.log",
    threads: STUDY.threads
    resources:
        **planned_for("calibration"),
    params:
        calibration=by(VALUES.calibration),
        computing=COMPUTING,
    message:
        "calibrating {wildcards.model}: {params.calibration}"
    shell:
        'gpu_lease python -m ramp.calibration --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " {params.calibration:q} --out {output.statistics:q}"
        " --threads {threads} {params.computing:q} > {log:q} 2>&1"


rule fold:
    """Scale Folding: one s per site, for all widths or (``awq_w4``) for uniform rows of one."""
    input:
        model=by(FILES.checkpoint),
        text=by(FILES.text, role="calibration"),
        shared=by(FILES.shared_fold),  # its search gives that of one width too
        counts=ancient(token_counts),
        code=sources("ramp/calibration/fold_search.py"),
    output:
        fold="<results>/folds/{model}/{fold}.safetensors",
    log:
        "<logs>/fold/{model}/{fold}.log",
    threads: STUDY.threads
    resources:
        **planned_for("fold"),
    params:
        calibration=by(VALUES.calibration),
        options=by(VALUES.fold_options),
        together=by(VALUES.folds_together),
        group_size=STUDY.group_size,
        computing=COMPUTING,
    message:
        "folding {wildcards.model}: {wildcards.fold}"
    shell:
        'gpu_lease python -m ramp.calibration.fold_search --model-dir "$(dirname {input.model:q})"'
        " --text {input.text:q}"
        " {params.calibration:q} {params.options:q} {params.together:q}"
        " --group-size {params.group_size:q} --out {output.fold:q}"
        " --threads {threads} {params.computing:q} > {log:q} 2>&1"
