# HALO: allocations as GGUF files, checked against the plan and by stock llama.cpp.


rule halo_export:
    """An allocation on the ggml grid, from the folded float weights."""
    input:
        model="<results>/models/{model}/asset.json",
        fold=fold_file,
        allocation="<results>/allocations/{model}/{method}/{budget}/{seed}.json",
        calibration="<results>/calibration/{model}.safetensors",
        code=sources("ramp/export/halo.py"),
    output:
        gguf="<results>/halo/{model}/{method}-b{budget}-s{seed}.gguf",
        plan="<results>/halo/{model}/{method}-b{budget}-s{seed}.plan.json",
        types="<results>/halo/{model}/{method}-b{budget}-s{seed}.types.txt",
    log:
        "<logs>/halo_export/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/halo_export/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of(PLAN.allocators),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    params:
        track=STUDY.track,
    message:
        "exporting {wildcards.model} to GGUF: {wildcards.method}, {wildcards.budget} bits"
    shell:
        "python -m ramp.export.halo export --model-dir $(dirname {input.model}) --fold {input.fold}"
        " --allocation {input.allocation} --calibration {input.calibration} --track {params.track}"
        " --out {output.gguf} --threads {threads} > {log} 2>&1"


rule halo_float:
    """The float model as a float32 GGUF file: what the agreement with llama.cpp is measured on."""
    input:
        model="<results>/models/{model}/asset.json",
        code=sources("ramp/export/halo.py"),
    output:
        gguf="<results>/halo/{model}/float-b16-s{seed}.gguf",
        plan="<results>/halo/{model}/float-b16-s{seed}.plan.json",
    log:
        "<logs>/halo_float/{model}-s{seed}.log",
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    message:
        "exporting {wildcards.model} to GGUF: float32"
    shell:
        "python -m ramp.export.halo float --model-dir $(dirname {input.model}) --out {output.gguf}"
        " --threads {threads} > {log} 2>&1"


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
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    params:
        length=STUDY.halo.length,
        windows=STUDY.halo.windows,
        limit=agreement_limit,
    message:
        "checking in llama.cpp: {wildcards.model} {wildcards.row}"
    shell:
        "python -m ramp.export.halo check --gguf {input.gguf} --plan {input.plan} --model-dir $(dirname {input.model})"
        " --text {input.text} --length {params.length} --windows {params.windows} --limit {params.limit}"
        " --out {output.checks} --keep-going --threads {threads} > {log} 2>&1"


rule halo_row:
    """The exported file as a row of its own (grid ggml), with its own bytes."""
    input:
        gguf="<results>/halo/{model}/{row}.gguf",
        plan="<results>/halo/{model}/{row}.plan.json",
        model="<results>/models/{model}/asset.json",
        allocation=row_allocation,
        code=sources("ramp/export/halo.py"),
    output:
        meta="<results>/quantized/{model}/{row}-ggml/meta.json",
    log:
        "<logs>/halo_row/{model}/{row}.log",
    wildcard_constraints:
        row=any_of(sorted({row.name for row in PLAN.halo_rows})),
    conda:
        "../envs/main.yml"
    params:
        study=STUDY.study,
    message:
        "sizes of the exported {wildcards.model} {wildcards.row}"
    shell:
        "python -m ramp.export.halo row --gguf {input.gguf} --plan {input.plan} --model-dir $(dirname {input.model})"
        " --study {params.study} --allocation {input.allocation} --out $(dirname {output.meta}) > {log} 2>&1"


rule static_mix:
    """llama.cpp's own mix of types, from the float file; a row without scores where llama.cpp is missing."""
    input:
        gguf="<results>/halo/{model}/float-b16-s{seed}.gguf",
        model="<results>/models/{model}/asset.json",
        calibration=mix_calibration,
        method=method_file,
        code=mix_sources,
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}-ggml/meta.json",
    log:
        "<logs>/static_mix/{model}/{method}-b{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/static_mix/{model}/{method}-b{budget}-s{seed}.tsv"
    wildcard_constraints:
        method=any_of(PLAN.mixes),
    conda:
        "../envs/main.yml"
    threads: STUDY.threads
    resources:
        mem_mb=STUDY.memory_mb,
    params:
        study=STUDY.study,
        track=STUDY.track,
        calibration=calibration_option,
    message:
        "llama.cpp's mix of {wildcards.model}: {wildcards.method}"
    shell:
        "python -m ramp.export.static_mix --model-dir $(dirname {input.model}) --gguf {input.gguf}"
        " --method-file {input.method} {params.calibration} --track {params.track} --seed {wildcards.seed}"
        " --study {params.study} --out $(dirname {output.meta}) --threads {threads} > {log} 2>&1"
