# Final rows over several banks. A draw of a model is a model by name: smollm2-135m.draw2 is calibrated, folded, banked,
# searched and quantized by the rules of every model, on text that is drawn by seed 2 (ramp/study/draws.py). `snakemake
# banks` makes the table alone.


# The allocation of draw 0, quantized on another draw.
use rule quantize as quantize_shared with:
    input:
        model=by(FILES.checkpoint),
        text="<results>/texts/calibration.jsonl",
        fold=below("folds/{model}/{fold}.safetensors", fold=PLAN.fold_of),
        method=by(FILES.method),
        allocation=by(FILES.shared_allocation),
        code=by(FILES.stage, stage="ramp/rows/quantize.py"),
    output:
        meta="<results>/quantized/{model}/{method}-b{budget}-s{seed}-draw0/meta.json",
        weights=passing("<results>/quantized/{model}/{method}-b{budget}-s{seed}-draw0/model.safetensors"),
    log:
        "<logs>/quantize/{model}/{method}-b{budget}-s{seed}-draw0.log",
    wildcard_constraints:
        model=any_of(PLAN.banks.draws),
        method=any_of(PLAN.allocators),
    message:
        "quantizing {wildcards.model}: {wildcards.method}, {wildcards.budget} bits, the allocation of draw 0"


rule banks_collect:
    """The final rows of every bank as tables; missing rows have no line."""
    input:
        rows=taken(PLAN.banks.files),
        code=sources("ramp/records/collect_banks.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["banks"]),
    log:
        "<logs>/banks_collect.log",
    localrule: True
    params:
        rows=by(VALUES.bank_rows),
        titles=by(VALUES.bank_titles),
    message:
        "collecting the rows over banks"
    shell:
        "python -m ramp.records.collect_banks --rows {params.rows:q} --titles {params.titles:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule banks:
    """Final rows over banks: banks.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["banks"]),
        "<results>/config.json",
    localrule: True
