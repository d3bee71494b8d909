# Our implementation against others: speed, memory, error and KL. No part of a study: `snakemake benchmarks` and
# `snakemake parity` write records of their own, which tables and paper show once they are there.


rule comparison:
    """One comparison of benchmarks/plan.py: both sides in turn in one run; every measurement is kept."""
    input:
        model=by(COMPARED.model),
        texts=by(COMPARED.texts),
        package=by(COMPARED.package),
        environment=by(COMPARED.environment),
        code=by(COMPARED.stage),
    output:
        piece="<results>/compared/{comparison}.json",
    log:
        "<logs>/compared/{comparison}.log",
    wildcard_constraints:
        comparison=any_of(PIECES),
    threads: by(COMPARED.threads)
    params:
        command=by(COMPARED.command),
    message:
        "measuring {wildcards.comparison}"
    shell:
        "{params.command:q} --threads 1 --out {output.piece:q} > {log:q} 2>&1"


rule compared:
    """The pieces of benchmarks.csv or parity.csv as one table of the records."""
    input:
        pieces=by(COMPARED.of_table),
        code=sources("benchmarks/records.py"),
    output:
        table="<results>/records/{table}.csv",
    log:
        "<logs>/compared/{table}.log",
    wildcard_constraints:
        table=any_of(COMPARED_TABLES),
    localrule: True
    params:
        configfiles=["--configfiles", *CONFIGFILES] if CONFIGFILES else [],
        results=folder(),
    message:
        "merging the pieces of {wildcards.table}"
    shell:
        "python -m benchmarks.records --table {wildcards.table:q} --pieces {input.pieces:q}"
        " --results {params.results:q} {params.configfiles:q} --out {output.table:q} > {log:q} 2>&1"


rule profile:
    """Processor time of this study's jobs so far, beside the published: profile.csv. Reads logs, which are no input."""
    input:
        measured="<results>/records/benchmarks.csv",
        published=FILES.project(f"{PUBLISHED}/profile.csv"),
        code=sources("benchmarks/study_profile.py"),
    output:
        table="<results>/records/profile.csv",
    log:
        "<logs>/compared/profile.log",
    localrule: True
    params:
        study=STUDY.study,
        logs=folder("logs"),
    message:
        "summing the logs of {params.study}"
    shell:
        "python -m benchmarks.study_profile --study {params.study:q} --before {input.published:q}"
        " --after {params.logs:q} --out {output.table:q} > {log:q} 2>&1"


rule benchmarks:
    """Speed, memory and bytes of ours, as ratios: benchmarks.csv; and what the study's jobs took: profile.csv."""
    input:
        "<results>/records/benchmarks.csv",
        "<results>/records/profile.csv",
    localrule: True


rule parity:
    """Our quantizers against the packages of the field: parity.csv."""
    input:
        "<results>/records/parity.csv",
    localrule: True
