# Files of ours at the bytes of llama.cpp's mixes, scored beside them. `snakemake gguf` makes the table alone.


rule gguf_mixes:
    """Every mix of one model, and a file of ours at most as large. Bank and files lie in R/.state, undeclared, so that
    a killed job resumes where it stopped."""
    input:
        model="<results>/models/{model}/asset.json",
        text="<results>/texts/calibration.jsonl",
        heldout="<results>/texts/heldout.jsonl",
        train="<results>/texts/train.jsonl",
        search="<results>/texts/search.jsonl",
        selection="<results>/texts/selection.jsonl",
        code=FILES.gguf_stage(),
    output:
        rows="<results>/gguf/{model}/rows.json",
        checks="<results>/gguf/{model}/checks.json",
        windows="<results>/gguf/{model}/windows.json",
    log:
        "<logs>/gguf_mixes/{model}.log",
    wildcard_constraints:
        model=any_of(PLAN.gguf.models),
    threads: STUDY.threads
    resources:
        **planned_for("gguf_mixes"),
    params:
        options=by(PLAN.gguf.options),
        work=folder(".state/gguf"),
        computing=COMPUTING,
    message:
        "files of {wildcards.model} at the bytes of llama.cpp's mixes"
    shell:
        'python -m ramp.sized_gguf.against_mixes --model-dir "$(dirname {input.model:q})" --text {input.text:q}'
        " --heldout-text {input.heldout:q} --train-text {input.train:q} --search-text {input.search:q}"
        " --selection-text {input.selection:q} {params.options:q} --work {params.work:q}"
        ' --out "$(dirname {output.rows:q})" --threads {threads} {params.computing:q} > {log:q} 2>&1'


rule gguf_collect:
    """Rows and checks of every model as tables."""
    input:
        rows=taken(PLAN.gguf.files),
        code=sources("ramp/records/collect_gguf.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["gguf"]),
    log:
        "<logs>/gguf_collect.log",
    localrule: True
    message:
        "collecting the files at the bytes of llama.cpp's mixes"
    shell:
        'python -m ramp.records.collect_gguf --rows {input.rows:q} --out "$(dirname {output.tables[0]:q})"'
        " > {log:q} 2>&1"


rule gguf:
    """Files at the bytes of llama.cpp's mixes: gguf.csv with the checks of ours."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["gguf"]),
        "<results>/config.json",
    localrule: True
