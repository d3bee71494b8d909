# From the records alone: tables, figures, claims, the paper and the report.


rule collect:
    """All measurements as tidy tables: the only input of tables, figures, claims and paper."""
    input:
        metrics=FILES.of_rows("metrics/{model}/{row}.json", PLAN.recorded_rows),
        rows=FILES.of_rows("quantized/{model}/{row}/meta.json", PLAN.recorded_rows),
        scores=FILES.of_rows("tasks_scored/{model}/{row}.json", PLAN.task_rows),
        allocations=FILES.of_rows("allocations/{model}/{method}/{budget}/{seed}.json", PLAN.mixed_rows()),
        episodes=FILES.of_rows("search/{model}/{method}/{budget}/{seed}/episodes.jsonl", PLAN.mixed_rows(searched=True)),
        halo=FILES.of_rows("halo/{model}/{row}.check.json", PLAN.gguf_rows),
        statistics=f"{R}/calibration/{STUDY.source}.safetensors",
        folds=FILES.folds(STUDY.source),
        models=expand("<results>/models/{model}/asset.json", model=PLAN.models),
        guard="<results>/texts/guard.json",
        code=sources("ramp/records/collect.py"),
    output:
        tables=expand("<results>/records/{record}.csv", record=RECORD_TABLES),
    log:
        "<logs>/collect.log",
    params:
        study=STUDY.study,
        source=STUDY.source,
        config_hash=VALUES.config_hash(),
        activations=by(VALUES.activations),
        models=[f"{R}/models/{model}" for model in PLAN.models],
    message:
        "collecting the records of {params.study}"
    shell:
        "python -m ramp.records.collect --metrics {input.metrics:q} --rows {input.rows:q}"
        " --tasks-scored {input.scores:q}"
        " --allocations {input.allocations:q} --episodes {input.episodes:q} --halo {input.halo:q}"
        " --activations {params.activations:q} --models {params.models:q} --source {params.source:q}"
        ' --config-hash {params.config_hash:q} --out "$(dirname {output.tables[0]:q})" > {log:q} 2>&1'


rule digests:
    """Digests of what every stage left behind, and the machine: what tells where two runs part."""
    input:
        records=RECORDS.collected,
        config="<results>/config.json",
        code=sources("ramp/records/digests.py"),
    output:
        digests="<results>/records/digests.json",
    log:
        "<logs>/digests.log",
    threads: STUDY.threads
    params:
        results=folder(),
        config_hash=VALUES.config_hash(),
    message:
        "writing {output.digests}"
    shell:
        "python -m ramp.records.digests --results {params.results:q} --config-hash {params.config_hash:q}"
        " --threads {threads} --out {output.digests:q} > {log:q} 2>&1"


rule claims:
    """A verdict for every claim of the paper that can be tested at this scale."""
    input:
        records=taken(RECORDS.tables),
        claims=local("paper/claims.yaml"),
        code=sources("paper/claims.py"),
    output:
        verdicts="<results>/records/claims.json",
    log:
        "<logs>/claims.log",
    message:
        "checking the claims"
    shell:
        'python -m paper.claims --records "$(dirname {input.records[0]:q})" --claims {input.claims:q}'
        " --out {output.verdicts:q} > {log:q} 2>&1"


rule tables:
    """Tables in LaTeX (booktabs), typst and Markdown, from one table model."""
    input:
        records=taken(RECORDS.tables),
        verdicts=taken(RECORDS.claims),
        claims=local("paper/claims.yaml"),
        published=RECORDS.published(),
        config="<results>/config.json",
        code=sources("paper/tables"),
    output:
        tables=directory("<paper>/tables"),
        index="<paper>/tables/index.json",
        lost=FILES.lost_tables(),
    log:
        "<logs>/tables.log",
    params:
        published=["--published", local(PUBLISHED)] if RECORDS.published() else [],
    message:
        "setting the tables"
    shell:
        'python -m paper.tables --records "$(dirname {input.verdicts:q})" {params.published:q} --out {output.tables:q}'
        " > {log:q} 2>&1"


rule figure:
    """Every figure as PDF and PNG: reading the records takes as long as drawing one."""
    input:
        records=taken(RECORDS.tables),
        verdicts=taken(RECORDS.claims),
        claims=local("paper/claims.yaml"),
        code=sources("paper/figures"),
    output:
        pdf=expand("<paper>/figures/{figure}.pdf", figure=FIGURES),
        png=[
            report(
                f"<paper>/figures/{figure}.png",
                caption=f"../report/figures/{figure}.rst",
                category="Figures",
                labels={"figure": figure},
            )
            for figure in FIGURES
        ],
    log:
        "<logs>/figure.log",
    message:
        "drawing the figures"
    shell:
        'python -m paper.figures --records "$(dirname {input.records[0]:q})" --out "$(dirname {output.pdf[0]:q})"'
        " > {log:q} 2>&1"


rule paper:
    """The paper; every number in its text comes from the records."""
    input:
        records=taken(RECORDS.tables),
        verdicts=taken(RECORDS.claims),
        tables="<paper>/tables",
        figures=expand("<paper>/figures/{figure}.png", figure=FIGURES),
        sources=FILES.project("paper/*.typ", "paper/*.yaml", "paper/*.bib", "paper/*.md"),
        code=sources("paper/build.py"),
    output:
        pdf=report("<paper>/paper.pdf", caption="../report/paper.rst", category="Paper"),
    log:
        "<logs>/paper.log",
    message:
        "typesetting {output.pdf}"
    shell:
        'python -m paper.build --records "$(dirname {input.verdicts:q})" --tables {input.tables:q}'
        ' --figures "$(dirname {input.figures[0]:q})" --out {output.pdf:q} > {log:q} 2>&1'


rule page:
    """The results page: one HTML file that sorts, filters and plots the records, without a server or a network."""
    input:
        records=taken(RECORDS.tables),
        verdicts=taken(RECORDS.claims),
        config="<results>/config.json",
        parts=FILES.project("paper/page/page.*", "paper/page/*.js", "paper/claims.yaml"),
        code=sources("paper/page"),
    output:
        page=report("<results>/index.html", caption="../report/page.rst", category="Results page"),
    log:
        "<logs>/page.log",
    message:
        "drawing {output.page}"
    shell:
        'python -m paper.page --records "$(dirname {input.verdicts:q})" --out {output.page:q} > {log:q} 2>&1'


rule compare:
    """This run beside the published one, row by row and claim by claim; a disagreement is reported and no error."""
    input:
        records=RECORDS.kept,
        published=RECORDS.compared,
        code=sources("ramp/records/compare.py"),
    output:
        report=report("<results>/compare.md", caption="../report/compare.rst", category="Comparison"),
    log:
        "<logs>/compare.log",
    localrule: True
    params:
        results=folder(),
    message:
        "comparing with the published records"
    shell:
        'python -m ramp.records.compare {params.results:q} "$(dirname {input.published[0]:q})"'
        " --out {output.report:q}"
        " > {log:q} 2>&1 || test $? -eq 1"


rule smoke_check:
    """Check the files of a finished study against each other: sizes equal to stat, checks passed, no gaps."""
    input:
        records=taken(RECORDS.tables),
        metrics=FILES.of_rows("metrics/{model}/{row}.json", PLAN.recorded_rows),
        code=sources("workflow/scripts/check_results.py"),
    output:
        report="<results>/check.json",
    log:
        "<logs>/smoke_check.log",
    localrule: True
    params:
        results=folder(),
    message:
        "checking the files of the study against each other"
    shell:
        "python -m workflow.scripts.check_results --results {params.results:q} --out {output.report:q} > {log:q} 2>&1"


rule baseline_check:
    """The contract tests on every file in baselines/, or with --config baseline=NAME on one: after adding a method.

    A package runs where its environment exists; the result lists what was left out, with the reason.
    """
    input:
        code=by(FILES.checked),
        environments=taken(FILES.checked_environments),
        tests=FILES.project("tests/contract/test_*.py"),
    output:
        passed=f"<results>/baseline_check/{STUDY.baseline or 'all'}.txt",
    log:
        f"<logs>/baseline_check/{STUDY.baseline or 'all'}.log",
    localrule: True
    params:
        rootdir=local("."),
        names=["-k", f"[{STUDY.baseline}] or [{STUDY.baseline}-"] if STUDY.baseline else [],
    message:
        "testing the methods in baselines/"
    shell:
        "python -m pytest -q -n 0 --rootdir {params.rootdir:q} {params.names:q} {input.tests:q} > {log:q} 2>&1"
        " && grep -E '^SKIPPED|[0-9]+ passed' {log:q} > {output.passed:q}"


rule settings:
    """The whole configuration as it was run, defaults written out."""
    input:
        code=sources("ramp/records/settings.py"),
    output:
        config="<results>/config.json",
    log:
        "<logs>/settings.log",
    localrule: True
    params:
        config=by(VALUES.whole),
    message:
        "writing {output.config}"
    shell:
        "python -m ramp.records.settings --settings {params.config:q} --out {output.config:q} > {log:q} 2>&1"


rule html:
    """Snakemake's own report: figures, paper, run times, provenance. A second Snakemake reads what this one wrote."""
    input:
        pdf="<paper>/paper.pdf",
        page="<results>/index.html",
        figures=expand("<paper>/figures/{figure}.png", figure=FIGURES),
        compared=RECORDS.comparison,
        config="<results>/config.json",
        snakefile=ancient(local("Snakefile")),
    output:
        html="<results>/report.html",
    log:
        "<logs>/html.log",
    localrule: True
    message:
        "writing {output.html}"
    shell:
        "python -m snakemake records paper page {input.compared:q} --snakefile {input.snakefile:q}"
        " --configfile {input.config:q} --nolock"
        " --report {output.html:q} > {log:q} 2>&1"
