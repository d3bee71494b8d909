# What lossless coding of the rows' codes would save. No part of a study: `snakemake entropy` reads its packed rows,
# which a study that keeps its results alone deletes: ask for both at once there, `snakemake all entropy`.


rule entropy_collect:
    """The entropy of every row's codes as a table."""
    input:
        rows=FILES.coded("meta.json"),
        weights=FILES.coded("model.safetensors"),
        code=sources("ramp/records/collect_entropy.py"),
    output:
        table="<results>/records/entropy.csv",
    log:
        "<logs>/entropy_collect.log",
    priority: READS_ROWS
    resources:
        **planned_for("entropy_collect"),
    message:
        "measuring the entropy of the rows' codes"
    shell:
        "python -m ramp.records.collect_entropy --rows {input.rows:q}"
        ' --out "$(dirname {output.table:q})" > {log:q} 2>&1'


rule entropy:
    """What lossless coding would save: entropy.csv."""
    input:
        "<results>/records/entropy.csv",
        "<results>/config.json",
    localrule: True
