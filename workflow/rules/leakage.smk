# What a leak buys: rows calibrated and searched on text nearer to the held-out text than the study's own, and on the
# scored windows themselves. Such a model is a model by name, smollm2-135m.leak-test-test, which goes through the rules
# of every model (ramp/study/leaked_models.py). `snakemake leakage` makes the table; its rows are in no other.


rule scored_text:
    """The windows that a model's rows are scored on, as text: read by the models of this section alone."""
    input:
        model="<results>/models/{model}/asset.json",
        reference="<results>/reference/{model}/heldout.safetensors",
        code=sources("ramp/evaluation/scored_text.py"),
    output:
        text="<results>/leakage/{model}/test.jsonl",
    log:
        "<logs>/scored_text/{model}.log",
    wildcard_constraints:
        model=any_of(PLAN.leakage.models),
    message:
        "writing the scored windows of {wildcards.model} as text"
    shell:
        'python -m ramp.evaluation.scored_text --model-dir "$(dirname {input.model:q})"'
        " --reference {input.reference:q} --out {output.text:q} > {log:q} 2>&1"


rule leakage_collect:
    """Every leaking row beside the study's own, as tables."""
    input:
        rows=taken(PLAN.leakage.files),
        code=sources("ramp/records/collect_leakage.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=SECTION_TABLES["leakage"]),
    log:
        "<logs>/leakage_collect.log",
    localrule: True
    params:
        rows=by(PLAN.leakage.words),
    message:
        "collecting the rows that saw text near the held-out text"
    shell:
        "python -m ramp.records.collect_leakage --rows {params.rows:q}"
        ' --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule leakage:
    """What a leak buys: leakage.csv with its windows."""
    input:
        expand("<results>/records/{record}.csv", record=SECTION_TABLES["leakage"]),
        "<results>/config.json",
    localrule: True
