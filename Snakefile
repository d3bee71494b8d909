# The replication of RAMP as one workflow: assets -> calibration -> bank -> allocations -> rows -> records -> paper.
# Rules lie in workflow/rules/, in the order in which data passes; `snakemake --list` tells what can be asked for.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.14")

BASE = Path(workflow.basedir)
if BASE.name == "workflow":  # started from workflow/Snakefile, which includes this file
    BASE = BASE.parent


sys.path.insert(0, str(BASE))
from ramp.study.validation import ConfigError, read

# A --configfile that names a study replaces the default one, instead of being merged into it.
if "study" not in config:
    try:
        read(BASE / "config" / "config.yaml")  # with the line of a fault, which Snakemake does not tell
    except ConfigError as error:
        raise WorkflowError(str(error)) from None

    configfile: f"{BASE}/config/config.yaml"


include: "workflow/rules/common.smk"


pathvars:
    results=R,
    paper=f"{R}/paper",
    logs=f"{R}/logs",
    envs=ENVS,


wildcard_constraints:
    asset="[a-z0-9][a-z0-9._-]*",
    model=any_of(PLAN.all_models),
    fold="[a-z][a-z0-9_]*",
    quantizer="[a-z][a-z0-9_]*",
    method="[a-z][a-z0-9_]*",
    environment="[a-z][a-z0-9_]*",
    budget="[0-9]+([.][0-9]+)?",
    seed="[0-9]+",
    evals="[0-9]+",
    units="(halves|linears)-[2-8]",
    file="[a-z][a-z0-9_]*",
    bits="[0-9]+",
    row="[a-z][a-z0-9_]*-b[0-9.]+-s[0-9]+(-ggml|-q8_0|-fp16|-draw0|-tuned)?",


include: "workflow/rules/assets.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/bank.smk"
include: "workflow/rules/sensitivity.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/packages.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/halo.smk"
include: "workflow/rules/league.smk"
include: "workflow/rules/optimum.smk"
include: "workflow/rules/fold_ablation.smk"
include: "workflow/rules/over_banks.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/gguf_mixes.smk"
include: "workflow/rules/noise.smk"
include: "workflow/rules/leakage.smk"
include: "workflow/rules/entropy.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/paper.smk"


report: "workflow/report/workflow.rst"


rule figures:
    """All figures, from recorded results."""
    input:
        expand("<paper>/figures/{figure}.{ending}", figure=FIGURES, ending=["pdf", "png"]),
    localrule: True


rule records:
    """The records and the verdicts on the claims."""
    input:
        *RECORDS.kept,
    localrule: True


rule all:
    """The paper, the report and the records of the configured study."""
    default_target: True
    input:
        "<paper>/paper.pdf",
        "<results>/index.html",
        "<results>/report.html",
        # listed although all of them are made on the way: Snakemake makes no file again that nothing asks for
        rules.figures.input,
        rules.records.input,
        RECORDS.comparison,
        "<results>/config.json",
        rules.tables.output,
        FILES.products(),
    localrule: True


rule archive:
    """The finished study in one file that checks itself, with the code and without weights (not part of ``all``)."""
    input:
        study=rules.all.input,
        code=sources("ramp/archive/__main__.py"),
    output:
        archive="<results>/archive.zip",
    log:
        "<logs>/archive.log",
    localrule: True
    params:
        results=folder(),
    message:
        "packing {output.archive}"
    shell:
        "python -m ramp.archive {params.results:q} --out {output.archive:q} > {log:q} 2>&1"


# One environment for all jobs, where Snakemake brings it (--sdm conda). Snakemake formats the path.
MAIN_ENVIRONMENT = str(BASE / "workflow" / "envs" / "main.yml").replace("{", "{{").replace("}", "}}")
for each in workflow.rules:
    if not each.norun:
        each.conda_env = MAIN_ENVIRONMENT


onstart:
    check_machine()
    start_fork_server()


onsuccess:
    show_comparison()
    show_outcome()


onerror:
    show_failures(log)
