# HALO: allocations as GGUF files, checked against the plan and by stock llama.cpp.


rule halo_export:
    """An allocation on the ggml grid, from the folded float weights."""
    input:
        model="<results>/models/{model}/asset.json",
        fold=below("folds/{model}/{fold}.safetensors", fold=PLAN.fold_of),
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        calibration="<results>/calibration/{model}.safetensors",
        code=sources("ramp/export/halo.py"),
    output:
        gguf="<results>/halo/{model}/{method}-b{budget}-s{seed}.gguf",
        plan="<results>/halo/{model}/{method}-b{budget}-s{seed}.plan.json",
        types="<results>/halo/{model}/{method}-b{budget}-s{seed}.types.txt",
    log:
        "<logs>/halo_export/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.of_kind(Allocator)),
    threads: STUDY.threads
    resources:
        **planned_for("halo_export"),
    params:
        track=STUDY.track,
    message:
        "exporting {wildcards.model} to GGUF: {wildcards.method}, {wildcards.budget} bits"
    shell:
        'python -m ramp.export.halo export --model-dir "$(dirname {input.model:q})" --fold {input.fold:q}'
        " --allocation {input.allocation:q} --calibration {input.calibration:q} --track {params.track:q}"
        " --out {output.gguf:q} --threads {threads} > {log:q} 2>&1"


rule halo_float:
    """The float model as a float32 GGUF file: what the agreement with llama.cpp is measured on."""
    input:
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/export/halo.py"),
    output:
        gguf=passing("<results>/halo/{model}/float-b16-s{seed}.gguf"),
        plan="<results>/halo/{model}/float-b16-s{seed}.plan.json",
    log:
        "<logs>/halo_float/{model}-s{seed}.log",
    threads: STUDY.threads
    resources:
        **planned_for("halo_float"),
    message:
        "exporting {wildcards.model} to GGUF: float32"
    shell:
        'python -m ramp.export.halo float --model-dir "$(dirname {input.model:q})" --out {output.gguf:q}'
        " --threads {threads} > {log:q} 2>&1"


rule halo_check:
    """Types, shapes and bytes on disk; then llama.cpp loads, generates and agrees on perplexity."""
    input:
        gguf="<results>/halo/{model}/{row}.gguf",
        plan="<results>/halo/{model}/{row}.plan.json",
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/heldout.jsonl",
        code=sources("ramp/export/halo.py"),
    output:
        checks="<results>/halo/{model}/{row}.check.json",
    log:
        "<logs>/halo_check/{model}/{row}.log",
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("halo_check"),
    params:
        length=STUDY.halo.length,
        windows=STUDY.halo.windows,
        limit=by(VALUES.agreement),
    message:
        "checking in llama.cpp: {wildcards.model} {wildcards.row}"
    shell:
        "python -m ramp.export.halo check --gguf {input.gguf:q} --plan {input.plan:q}"
        ' --model-dir "$(dirname {input.model:q})"'
        " --text {input.text:q} --length {params.length:q} --windows {params.windows:q} --limit {params.limit:q}"
        " --out {output.checks:q} --keep-going --threads {threads} > {log:q} 2>&1"


rule halo_row:
    """The exported file as a row of its own (grid ggml), with its own bytes."""
    input:
        gguf="<results>/halo/{model}/{row}.gguf",
        plan="<results>/halo/{model}/{row}.plan.json",
        model="<results>/models/{model}/asset.json",
        allocation=by(FILES.row_allocation),
        code=sources("ramp/export/halo.py"),
    output:
        meta="<results>/quantized/{model}/{row}-ggml/meta.json",
    log:
        "<logs>/halo_row/{model}/{row}.log",
    wildcard_constraints:
        row=any_of(sorted({row.name for row in PLAN.halo_rows})),
    params:
        study=STUDY.study,
    message:
        "sizes of the exported {wildcards.model} {wildcards.row}"
    shell:
        "python -m ramp.export.halo row --gguf {input.gguf:q} --plan {input.plan:q}"
        ' --model-dir "$(dirname {input.model:q})"'
        ' --study {params.study:q} --allocation {input.allocation:q} --out "$(dirname {output.meta:q})" > {log:q} 2>&1'


rule halo_card:
    """A README for a hub beside the exported file, with its scores as evaluation results."""
    input:
        plan="<results>/halo/{model}/{row}.plan.json",
        metrics="<results>/metrics/{model}/{row}-ggml.json",
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/export/halo_card.py"),
    output:
        card="<results>/halo/{model}/{row}.card.md",
    log:
        "<logs>/halo_card/{model}/{row}.log",
    wildcard_constraints:
        row=any_of(sorted({row.name for row in PLAN.halo_rows})),
    localrule: True
    message:
        "model card of the exported {wildcards.model} {wildcards.row}"
    shell:
        "python -m ramp.export.halo_card --plan {input.plan:q} --metrics {input.metrics:q}"
        ' --model-dir "$(dirname {input.model:q})"'
        " --out {output.card:q} > {log:q} 2>&1"


rule static_mix:
    """llama.cpp's own mix of types, from the float file; a row without scores where llama.cpp is missing."""
    input:
        gguf="<results>/halo/{model}/float-b16-s{seed}.gguf",
        plan="<results>/halo/{model}/float-b16-s{seed}.plan.json",
        model="<results>/models/{model}/asset.json",
        calibration=by(FILES.mix_calibration),
        method=by(FILES.method),
        code=by(FILES.stage, stage="ramp/export/static_mix.py"),
    output:
        **passing_alone(weights="<results>/quantized/{model}/{method}-b{budget}-s{seed}-ggml/model.gguf"),
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}-ggml/meta.json",
    log:
        "<logs>/static_mix/{model}/{method}-b{budget}-s{seed}.log",
    wildcard_constraints:
        method=any_of(PLAN.of_kind(Mix)),
    priority: READS_ROWS
    threads: STUDY.threads
    resources:
        **planned_for("static_mix"),
    params:
        study=STUDY.study,
        track=STUDY.track,
        file=by(VALUES.reference),
        calibration=option("--calibration", "calibration"),
        placeholder=PLACEHOLDER,
    message:
        "llama.cpp's mix of {wildcards.model}: {wildcards.method}"
    shell:
        'python -m ramp.export.static_mix --model-dir "$(dirname {input.model:q})" --gguf {input.gguf:q}'
        " --plan {input.plan:q}"
        " --method-file {params.file:q} {params.calibration:q} --track {params.track:q} --seed {wildcards.seed:q}"
        ' --study {params.study:q} --out "$(dirname {output.meta:q})" --threads {threads} {params.placeholder:q}'
        " > {log:q} 2>&1"
