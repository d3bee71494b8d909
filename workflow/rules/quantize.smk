# Every reported row is quantized sequentially by one function, its predecessors quantized; embedding and head are
# stored alike by all of them.


rule float_row:
    """Sizes of the float model and of the released file; nothing is quantized."""
    input:
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/rows/quantize.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b16-s{seed}/meta.json",
    log:
        "<logs>/quantize/{model}/{method}-b16-s{seed}.log",
    wildcard_constraints:
        method="float|released",
    params:
        study=STUDY.study,
        group_size=STUDY.group_size,
        track=STUDY.track,
    message:
        "sizes of {wildcards.model}: {wildcards.method}"
    shell:
        'python -m ramp.rows.quantize --model-dir "$(dirname {input.model:q})" --method-file {wildcards.method:q}'
        " --group-size {params.group_size:q} --track {params.track:q} --seed {wildcards.seed:q}"
        " --study {params.study:q}"
        ' --out "$(dirname {output.meta:q})" > {log:q} 2>&1'


rule quantize:
    """One packed checkpoint: a uniform width, or the widths of an allocation."""
    input:
        model=by(FILES.checkpoint),
        text=by(FILES.text, role="calibration"),
        fold=below("folds/{calibrated}/{fold}.safetensors", calibrated=FILES.calibrated, fold=PLAN.fold_of),
        method=by(FILES.method),
        allocation=by(FILES.allocation),
        code=by(FILES.stage, stage="ramp/rows/quantize.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}/meta.json",
        weights=passing("<results>/quantized/{model}/{method}-b{budget}-s{seed}/model.safetensors"),
    log:
        "<logs>/quantize/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(sorted({*PLAN.methods, *PLAN.allocators, *PLAN.transferred} - {*PLAN.of_kind(Package)})),
    threads: STUDY.threads
    resources:
        **planned_for("quantize"),
    params:
        study=STUDY.study,
        calibration=by(VALUES.calibration),
        leak=by(VALUES.leak),
        file=by(VALUES.reference),
        allocation=option("--allocation", "allocation"),
        widths=by(VALUES.widths),
        group_size=STUDY.group_size,
        track=STUDY.track,
        computing=COMPUTING,
    message:
        "quantizing {wildcards.model}: {wildcards.method}, {wildcards.budget} bits"
    shell:
        'gpu_lease python -m ramp.rows.quantize --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " {params.calibration:q} {params.leak:q} --fold {input.fold:q} --method-file {params.file:q}"
        " {params.allocation:q} {params.widths:q} --group-size {params.group_size:q} --track {params.track:q}"
        ' --seed {wildcards.seed:q} --study {params.study:q} --out "$(dirname {output.meta:q})" --threads {threads}'
        " {params.computing:q} > {log:q} 2>&1"


rule track:
    """A row with embedding and head in another track; its linears are copied."""
    input:
        meta="<results>/quantized/{model}/{row}/meta.json",
        weights="<results>/quantized/{model}/{row}/model.safetensors",
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/rows/storage_track.py"),
    output:
        meta="<results>/quantized/{model}/{row}-{track}/meta.json",
        weights=passing("<results>/quantized/{model}/{row}-{track}/model.safetensors"),
    log:
        "<logs>/track/{model}/{row}-{track}.log",
    wildcard_constraints:
        row=any_of(sorted({row.base for row in PLAN.track_rows})),
        track=any_of(sorted({row.ending for row in PLAN.track_rows})),
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("track"),
    message:
        "storing {wildcards.model} {wildcards.row} in track {wildcards.track}"
    shell:
        'python -m ramp.rows.storage_track --row-dir "$(dirname {input.meta:q})" --model-dir "$(dirname {input.model:q})"'
        ' --track {wildcards.track:q} --out "$(dirname {output.meta:q})" --threads {threads} > {log:q} 2>&1'
