# From the records alone: tables, figures, claims, the paper and the report.


rule collect:
    """All measurements as tidy tables: the only thing that tables, figures, claims and paper read."""
    input:
        metrics=row_paths("metrics/{model}/{row}.json"),
        rows=row_paths("quantized/{model}/{row}/meta.json"),
        scores=score_paths(),
        allocations=mixed_paths("allocations/{model}/{method}/{budget}/{seed}.json"),
        episodes=mixed_paths("search/{model}/{method}/{budget}/{seed}/episodes.jsonl", searched=True),
        halo=halo_paths("check.json"),
        statistics="<results>/calibration/{source}.safetensors".format(source=STUDY.source),
        folds=fold_paths(STUDY.source),
        models=expand("<results>/models/{model}/asset.json", model=PLAN.models),
        guard="<results>/texts/guard.json",
        code=sources("ramp/records/collect.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=RECORD_TABLES),
    log:
        "<logs>/collect.log",
    conda:
        "../envs/main.yml"
    params:
        study=STUDY.study,
        source=STUDY.source,
        config_hash=config_hash,
        activations=activation_pairs,
        models=model_folders,
    message:
        "collecting the records of {params.study}"
    shell:
        "python -m ramp.records.collect --metrics {input.metrics} --rows {input.rows} --tasks-scored {input.scores}"
        " --allocations {input.allocations} --episodes {input.episodes} --halo {input.halo}"
        " --activations {params.activations} --models {params.models} --source {params.source}"
        " --config-hash {params.config_hash} --out $(dirname {output.tables[0]}) > {log} 2>&1"


rule claims:
    """A verdict for every claim of the paper that this scale can speak to."""
    input:
        records=record_tables,
        claims=local("paper/claims.yaml"),
        code=sources("paper/claims.py"),
    output:
        verdicts="<results>/records/claims.json",
    log:
        "<logs>/claims.log",
    conda:
        "../envs/main.yml"
    message:
        "judging the claims"
    shell:
        "python -m paper.claims --records $(dirname {input.records[0]}) --claims {input.claims}"
        " --out {output.verdicts} > {log} 2>&1"


rule tables:
    """Tables in LaTeX (booktabs), typst and Markdown, from one table model."""
    input:
        records=record_tables,
        verdicts=claims_file,
        published=published_records(),
        code=sources("paper/tables"),
    output:
        tables=directory("<paper>/tables"),
    log:
        "<logs>/tables.log",
    conda:
        "../envs/main.yml"
    params:
        published=published_option,
    message:
        "setting the tables"
    shell:
        "python -m paper.tables --records $(dirname {input.verdicts}) {params.published} --out {output.tables}"
        " > {log} 2>&1"


rule figure:
    """One figure as PDF and PNG."""
    input:
        records=record_tables,
        code=sources("paper/figures"),
    output:
        pdf="<paper>/figures/{figure}.pdf",
        png=report(
            "<paper>/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/figure/{figure}.log",
    wildcard_constraints:
        figure=any_of(FIGURES),
    conda:
        "../envs/main.yml"
    message:
        "drawing {wildcards.figure}"
    shell:
        "python -m paper.figures --records $(dirname {input.records[0]}) --out $(dirname {output.pdf})"
        " --only {wildcards.figure} > {log} 2>&1"


rule paper:
    """The paper; every number in its text comes from the records."""
    input:
        records=record_tables,
        verdicts=claims_file,
        tables="<paper>/tables",
        figures=expand("<paper>/figures/{figure}.png", figure=FIGURES),
        sources=paper_sources(),
        code=sources("paper/build.py"),
    output:
        pdf=report("<paper>/paper.pdf", caption="../report/paper.rst", category="Paper"),
    log:
        "<logs>/paper.log",
    conda:
        "../envs/main.yml"
    message:
        "typesetting {output.pdf}"
    shell:
        "python -m paper.build --records $(dirname {input.verdicts}) --tables {input.tables}"
        " --figures $(dirname {input.figures[0]}) --out {output.pdf} > {log} 2>&1"


rule smoke_check:
    """What must hold of every finished study, checked on its files: sizes equal to stat, checks passed, no gaps."""
    input:
        records=record_tables,
        metrics=row_paths("metrics/{model}/{row}.json"),
        code=sources("workflow/scripts/check_results.py"),
    output:
        report="<results>/check.json",
    log:
        "<logs>/smoke_check.log",
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        results=results_folder,
    message:
        "checking the files of the study against each other"
    shell:
        "python -m workflow.scripts.check_results --results {params.results} --out {output.report} > {log} 2>&1"


rule baseline_check:
    """The contract tests on every file in baselines/, or with --config baseline=NAME on one: after adding a method.

    A package is run, too, where its environment is there; what was left out stands in the result with its reason.
    """
    input:
        code=checked_methods(),
        environments=made_environments(),
        tests=contract_tests(),
    output:
        passed=f"<results>/baseline_check/{STUDY.baseline or 'all'}.txt",
    log:
        f"<logs>/baseline_check/{STUDY.baseline or 'all'}.log",
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        rootdir=project_folder,
        names=checked_names,
    message:
        "testing the methods in baselines/"
    shell:
        "python -m pytest -q --rootdir {params.rootdir} {params.names} {input.tests} > {log} 2>&1"
        " && grep -E '^SKIPPED|[0-9]+ passed' {log} > {output.passed}"


rule settings:
    """The whole configuration as it was run, defaults written out."""
    output:
        config="<results>/config.json",
    log:
        "<logs>/settings.log",
    localrule: True
    conda:
        "../envs/main.yml"
    params:
        config=whole_configuration,
    message:
        "writing {output.config}"
    shell:
        "printf '%s\\n' {params.config} > {output.config} 2> {log}"


rule html:
    """Snakemake's own report: figures, paper, run times, provenance. A second Snakemake reads what this one recorded."""
    input:
        pdf="<paper>/paper.pdf",
        figures=expand("<paper>/figures/{figure}.png", figure=FIGURES),
        config="<results>/config.json",
        snakefile=ancient(local("workflow/Snakefile")),
    output:
        html="<results>/report.html",
    log:
        "<logs>/html.log",
    localrule: True
    conda:
        "../envs/main.yml"
    message:
        "writing {output.html}"
    shell:
        "python -m snakemake records paper --snakefile {input.snakefile} --configfile {input.config} --nolock"
        " --report {output.html} > {log} 2>&1"
