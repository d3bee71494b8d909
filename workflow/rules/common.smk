# What all rules share: the checked configuration, the plan of rows, the sources that a stage runs, the environment
# of jobs. What single rules ask for stands in inputs.smk.

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir).parent
sys.path.insert(0, str(BASE))

from benchmarks.plan import PIECES, pieces_of
from ramp.core.errors import RampError
from ramp.methods.kinds import PROXIES
from ramp.methods.loader import discover, load_method, parse_params
from ramp.assets.registry import load_registry
from ramp.study.validation import ConfigError, validate
from workflow.scripts.plan_folds import FoldPlanError
from workflow.scripts.plan_league import LeagueError
from workflow.scripts.plan import Plan, PlanError, package_files, used_methods
from workflow.scripts.rows import GGML
from workflow.scripts.preflight import PreflightError, preflight
from ramp.core.sources import closure


def checked_plan():
    """The plan of the configured study; every fault of the configuration at once, before anything is planned."""
    try:
        registry = load_registry(REGISTRY)
        found = discover(BASE / "baselines")
        study = validate(config, methods=found, models=registry.of_type("model"))
        names = [*used_methods(study), *([] if study.external else package_files(found))]
        names += [piece.package for piece in PIECES.values() if piece.package]
        methods = {name: load_method(found[name]) for name in dict.fromkeys(names)}
        for name, values in study.params.items():
            parse_params(methods.get(name) or load_method(found[name]), values)
        plan = Plan(study, methods, registry)
        # asked for here so that their faults are told at start
        plan.task_rows, plan.target_rows, plan.track_rows, plan.environments
        plan.league.check()
        plan.folds.check()
        return plan
    except ConfigError as error:
        raise WorkflowError(f"the configuration has faults:\n{error}") from None
    except (RampError, PlanError, LeagueError, FoldPlanError) as error:
        raise WorkflowError(str(error)) from None


def local(path):
    """A file of the project, as seen from the working directory (they differ under ``snakemake -d``)."""
    whole = BASE / path
    return os.path.relpath(whole) if BASE == Path.cwd() else str(whole)


def sources(*files):
    """``files`` and all project modules that they import, for a rule's ``code`` input."""
    return [local(file) for file in closure(BASE, *files)]


REGISTRY = local(config.get("registry", "config/assets.yaml"))
PLAN = checked_plan()
STUDY = PLAN.study
LIMITS = STUDY.limits
R = STUDY.results
ENVS = local(".envs")
PUBLISHED, PUBLISHED_USED = Path("results/published"), ("records.csv", "windows.csv", "config.json")
BARE_ROWS = ("float", "released")
ROLES = ("calibration", "train", "search", "selection", "heldout")

# ``records=published`` draws from the published records, which no rule makes.
RECORDS = local(PUBLISHED) if STUDY.records == "published" else f"{R}/records"

# What the records consist of (ramp/records/table.py), and what is drawn from them (paper/figures.py).
RECORD_TABLES = ("records", "windows", "items", "allocations", "episodes", "activations", "transfer", "halo")
# Records that no study makes, only `snakemake benchmarks` and `snakemake parity` (benchmarks/plan.py).
COMPARED_TABLES = ("benchmarks", "parity")
COMPARISONS = tuple(PIECES)

DRAWINGS = ("figures", "tables", "paper")
PAPER_SUFFIXES = (".typ", ".yaml", ".bib", ".md")
FIGURES = ("pareto", "allocation", "learning", "outliers", "transfer", "anytime", "optimum")

# GPUs that a model job asks the scheduler for; whether there is one is asked without importing torch.
HAS_GPU = STUDY.device.startswith("cuda") or (STUDY.device == "auto" and shutil.which("nvidia-smi") is not None)
GPUS = int(HAS_GPU) if STUDY.gpus is None else STUDY.gpus

# Jobs run the interpreter that runs Snakemake, unless Snakemake brings an environment of its own (--sdm conda).
OWN_ENVIRONMENT = {str(method) for method in workflow.deployment_settings.deployment_method or ()}
PATHS = [str(BASE / "workflow" / "scripts")] + ([] if OWN_ENVIRONMENT else [str(Path(sys.executable).parent)])
shell.prefix(
    "set -euo pipefail; "
    f"export PATH={shlex.quote(os.pathsep.join(PATHS))}:$PATH PYTHONPATH={shlex.quote(str(BASE))} "
    "PYTHONHASHSEED=0 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive TOKENIZERS_PARALLELISM=false; "
)


def any_of(names):
    """A wildcard constraint: exactly one of ``names`` (a pattern that nothing matches where there are none)."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def check_machine():
    """What has to be there before the first job, told in one sentence; and what the study goes on without."""
    for name, reason in PLAN.unable.items():
        print(f"warning: method '{name}' cannot run here: {reason}; its rows say so (‡)", file=sys.stderr)
    try:
        preflight(STUDY, PLAN.registry, jobs_run_here=workflow.local_exec)
    except PreflightError as error:
        raise WorkflowError(str(error)) from None
