# What all rules share: the planned study, the environment of jobs, and how wildcards reach ramp/study, which knows the
# files and parameters of every rule.

import atexit
import hashlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from benchmarks.comparison_files import ComparisonFiles
from benchmarks.plan import PIECES
from paper.figures import FIGURES
from ramp.core.arithmetic import ENVIRONMENT as REPRODUCIBLE
from ramp.core.errors import RampError
from ramp.assets.options import ROLES
from ramp.methods.kinds import PROXIES, Allocator, Mix, Package
from ramp.plan.devices import device_at_hand, machine_memory
from ramp.plan.dry_run import jobs_of
from ramp.plan.job_costs import JobCosts
from ramp.plan.quantities import Facts
from ramp.plan.refusal import check_room
from ramp.plan.resources import RuleResources
from ramp.study.known_imports import KnownImports
from ramp.study.load import make_plan, registry_of
from ramp.scoring.noise_variations import VARIATIONS
from ramp.study.temporary_files import passes
from ramp.study.preflight import preflight
from ramp.study.record_files import COMPARED_TABLES, RECORD_TABLES, SECTION_TABLES, RecordFiles
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues
from ramp.study.text_needs import counted_models, exported_models, text_needs
from ramp.study.validation import ConfigError, read
from workflow.scripts.failures import failed_jobs
from workflow.scripts.made_files import asked_files, made_lines


def planned():
    """Return the plan of the configured study; every fault of the configuration at once, before anything is planned."""
    try:
        for file in workflow.overwrite_configfiles:
            read(file)  # Snakemake takes a key that is written twice
        packages = [piece.package for piece in PIECES.values() if piece.package]
        return make_plan(config, BASE, REGISTRY, packages)
    except ConfigError as error:
        raise WorkflowError(f"the configuration has faults:\n{error}") from None
    except RampError as error:
        raise WorkflowError(str(error)) from None


def seen_project():
    """Return the project's folder as rules may name it: Snakemake takes braces in a file's name for wildcards."""
    if BASE == Path.cwd() or not {*"{}"} & {*str(BASE)}:
        return BASE
    link = Path(".snakemake", f"project-{hashlib.sha256(os.fsencode(BASE)).hexdigest()[:12]}")
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(BASE)
    return link


@cache
def local(path):
    """Return a file of the project as seen from the working directory (they differ under ``snakemake -d``)."""
    return os.path.relpath(BASE / path) if BASE == Path.cwd() else str(SEEN / path)


SEEN = seen_project()
REGISTRY = local(registry_of(config))
PLAN = planned()
STUDY = PLAN.study
LIMITS = STUDY.limits
R = STUDY.results
ENVS = local(".envs")
PUBLISHED = "results/published"
CONFIGFILES = [local(file) if file.is_relative_to(BASE) else str(file) for file in workflow.overwrite_configfiles]

# ``records=published`` draws from the published records, which no rule makes.
RECORDS = RecordFiles(
    STUDY,
    local(PUBLISHED) if STUDY.records == "published" else f"{R}/records",
    local(PUBLISHED),
    lambda: {str(target) for target in workflow.dag_settings.targets},
)
IMPORTS = KnownImports(Path(".snakemake", "imports.json"))
atexit.register(IMPORTS.keep)
FILES = RuleFiles(PLAN, BASE, ENVS, local, IMPORTS.modules)
VALUES = RuleValues(FILES)
COMPARED = ComparisonFiles(FILES)
sources = FILES.sources

# The device of jobs that run a model, and what every job asks a scheduler for; no torch is imported for it.
DEVICE = device_at_hand(STUDY.device)
HAS_GPU = DEVICE.is_gpu
COSTS = JobCosts.on(Facts(PLAN), DEVICE)
RESOURCES = RuleResources(COSTS, int(HAS_GPU) if STUDY.gpus is None else STUDY.gpus)
planned_for = RESOURCES.of_rule

# Jobs that read a bank, a row, a float file or what a package left go before those that make another: few lie on the
# disk. References, which every row waits for, go before them.
READS_ROWS = 10
ROWS_WAIT = 20
COMPUTING = ["--device", STUDY.device, "--arithmetic", "reproducible" if STUDY.reproducible else "fast"]
ARITHMETIC = [*COMPUTING, "--dtype", STUDY.dtype]

# Jobs run the interpreter that runs Snakemake, unless Snakemake brings an environment of its own (--sdm conda).
OWN_ENVIRONMENT = {str(method) for method in workflow.deployment_settings.deployment_method or ()}
PATHS = [str(BASE / "workflow" / "scripts")] + ([] if OWN_ENVIRONMENT else [str(Path(sys.executable).parent)])
JOB_ENVIRONMENT = {
    "PYTHONPATH": str(BASE),
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",  # the same sums in every job
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    **(REPRODUCIBLE if STUDY.reproducible else {}),
}

# Jobs on this machine's processor are copies of one process that has imported torch. One that finds no server, as on a
# cluster, starts an interpreter. A GPU is used by whole processes alone.
FORK_SERVER = "" if HAS_GPU or OWN_ENVIRONMENT else f".snakemake/fork-{os.getpid()}.socket"
FORK_CODE = BASE / "workflow" / "scripts" / "fork_server.py"
FORK_CLIENT = shlex.quote(str(FORK_CODE.with_name("fork_client.py")))
FORKED = f'gpu_lease() {{ "$@"; }}; python() {{ command python -S {FORK_CLIENT} {FORK_SERVER} "$@"; }}; '
PREFIX = (
    "set -euo pipefail; "
    f"export PATH={shlex.quote(os.pathsep.join(PATHS))}:$PATH "
    f"{' '.join(f'{name}={shlex.quote(value)}' for name, value in JOB_ENVIRONMENT.items())}; "
    f"{FORKED if FORK_SERVER else ''}"
)
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))  # Snakemake formats it


def start_fork_server():
    """Start the server of this run's jobs; it ends when its standard input does, with this process."""
    if FORK_SERVER and workflow.local_exec:
        single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        start_fork_server.process = subprocess.Popen(  # kept: its pipe has to stay open
            [sys.executable, FORK_CODE, FORK_SERVER],
            stdin=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the keyboard is Snakemake's
            env={**os.environ, **JOB_ENVIRONMENT, **single},
        )


def token_counts(wildcards):
    """Return the counts that a job waits for: it starts when its texts are long enough, and counting again runs nothing
    again."""
    return [f"{R}/texts/counts/{model}.json" for model in counted_models(PLAN, wildcards.model)]


def any_of(names):
    """Return a wildcard constraint: exactly one of ``names`` (a pattern that nothing matches where there are none)."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def by(function, **given):
    """Return an input function that calls ``function`` with the wildcards that its arguments are named after.

    ``given`` are other arguments: ``asset="{model}"`` takes another wildcard, what is no text is taken as it is.
    """
    names = inspect.signature(function).parameters

    def call(wildcards):
        values = dict(wildcards.items())
        more = {name: text.format(**values) if isinstance(text, str) else text for name, text in given.items()}
        return function(**{name: value for name, value in values.items() if name in names} | more)

    return call


def below(pattern, **names):
    """Return an input function: a file of the results.

    A name in ``pattern`` is a wildcard, or what the function of that name in ``names`` makes of the wildcards.
    """
    found = {name: by(function) for name, function in names.items()}

    def call(wildcards):
        values = dict(wildcards.items()) | {name: make(wildcards) for name, make in found.items()}
        return f"{R}/{pattern}".format(**values)

    return call


def passing(path):
    """Return an output that goes with its last reader (ramp/study/temporary_files.py), unless the study keeps all."""
    if not passes(path.removeprefix("<results>/")):
        raise WorkflowError(f"{path} is not in ramp/study/temporary_files.py, which the plan reads")
    return path if STUDY.keep == "all" else temp(path)


def passing_alone(**paths):
    """Return outputs that a study which keeps all does not name: there a row that failed has none of them."""
    return {} if STUDY.keep == "all" else {name: passing(path) for name, path in paths.items()}


# Where a rule names such outputs, a row that failed has an empty file.
PLACEHOLDER = [] if STUDY.keep == "all" else ["--placeholder"]


def folder(name="."):
    """Return a parameter function: a folder of the results. The linter takes a plain text for a forgotten input."""
    return lambda wildcards: os.path.normpath(f"{R}/{name}")


def option(flag, name):
    """Return a parameter function: ``flag`` and the input ``name``, or nothing where a row has no such input."""

    def call(wildcards, input):
        files = input.get(name)
        return [flag, *([files] if isinstance(files, str) else files)] if files else []

    return call


def taken(function):
    """Return an input function: the files of ``function``, each made again where needed or taken as it is."""
    return lambda wildcards: [before_update(file) if as_it_is else file for file, as_it_is in function()]


def check_machine():
    """Stop before the first job where the study cannot run; warn of what it leaves out."""
    for name, reason in PLAN.unable.items():
        print(f"warning: method '{name}' cannot run here: {reason}; its rows say so (‡)", file=sys.stderr)
    try:
        preflight(STUDY, PLAN.registry, jobs_run_here=workflow.local_exec)
        for sentence in check_room(COSTS, jobs_of(workflow.dag), jobs_run_here=workflow.local_exec):
            print(f"warning: {sentence}", file=sys.stderr)
    except RampError as error:
        raise WorkflowError(str(error)) from None


def show_outcome():
    """Print which of the files that were asked for are there, and what the records say where this run judged them."""
    for line in made_lines(asked_files(workflow.dag.targetjobs)):
        print(line, file=sys.stderr)
    judged = {str(file) for job in workflow.dag.jobs if workflow.dag.noneedrun_finished(job) for file in job.output}
    if f"{R}/records/claims.json" in judged:
        call = [sys.executable, "-m", "paper.outcome", "--records", f"{R}/records"]
        done = subprocess.run(call, env={**os.environ, **JOB_ENVIRONMENT}, capture_output=True, text=True, check=False)
        print(done.stdout.strip(), file=sys.stderr)


def show_failures(logs):
    """Print what is there, the failed jobs, each with the last line of its log, and how to go on."""
    show_outcome()
    if failed := [job for file in logs for job in failed_jobs(Path(file))]:
        print(
            "\n".join(["failed:", *failed, "what is done stays: the same command goes on from here"]), file=sys.stderr
        )


def show_comparison():
    """Print what the comparison with the published records counts, where it was asked for."""
    for file in map(Path, RECORDS.comparison):
        if RECORDS.comparison_asked() and file.is_file():
            head, counts = file.read_text(encoding="utf-8").split("\n\n")[:2]
            print(f"{head.removeprefix('# ')}\n{counts}\n(all of it: {file})", file=sys.stderr)


# Local jobs share this machine's memory, and a job on a card has its own; the command line may say how much there is.
GIVEN = workflow.resource_settings.resources  # of the command line and the profile; Snakemake calls mem_mb mem
CARDS = int(GIVEN["gpu"].value) if HAS_GPU and "gpu" in GIVEN else int(HAS_GPU)
if workflow.is_main_process and workflow.local_exec:
    for name, size in (("mem_mb", machine_memory()), ("gpu_mem_mb", CARDS * DEVICE.memory)):
        if size and not {name, name.removesuffix("_mb")} & {*GIVEN}:
            workflow.register_resource(name, size // 10**6)

if workflow.is_main_process:
    for sentence in PLAN.broken:
        print(f"warning: {sentence}; this study does not name it", file=sys.stderr)
