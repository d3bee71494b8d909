# Ours beside other implementations: speed, memory, error and KL. No part of a study: `snakemake benchmarks` and
# `snakemake parity` write records of their own, which tables and paper show once they are there.


rule comparison:
    """One comparison of benchmarks/plan.py: both sides by turns in one run, every single measurement kept."""
    input:
        model=compared_model,
        texts=compared_texts,
        package=compared_package,
        environment=compared_environment,
        code=compared_sources,
    output:
        piece="<results>/compared/{comparison}.json",
    log:
        "<logs>/compared/{comparison}.log",
    wildcard_constraints:
        comparison=any_of(COMPARISONS),
    conda:
        "../envs/main.yml"
    threads: comparison_threads
    params:
        command=compared_command,
    message:
        "measuring {wildcards.comparison}"
    shell:
        "{params.command} --threads 1 --out {output.piece} > {log} 2>&1"


rule compared:
    """The pieces of benchmarks.csv or parity.csv as one table of the records."""
    input:
        pieces=comparison_pieces,
        code=sources("benchmarks/records.py"),
    output:
        table="<results>/records/{table}.csv",
    log:
        "<logs>/compared/{table}.log",
    wildcard_constraints:
        table=any_of(COMPARED_TABLES),
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        configfiles=given_configfiles,
        results=results_folder,
    message:
        "merging the pieces of {wildcards.table}"
    shell:
        "python -m benchmarks.records --table {wildcards.table} --pieces {input.pieces}"
        " --results {params.results} {params.configfiles} --out {output.table} > {log} 2>&1"


rule benchmarks:
    """Speed, memory and bytes of ours, as ratios: benchmarks.csv."""
    input:
        "<results>/records/benchmarks.csv",
    localrule: True


rule parity:
    """Our quantizers beside the field's packages: parity.csv."""
    input:
        "<results>/records/parity.csv",
    localrule: True
