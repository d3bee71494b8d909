# What all rules share: the checked configuration, the plan of rows, paths, and the sources that a stage runs.
# No rule stands here, and no path is put together anywhere else twice.

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE))

from ramp.errors import RampError
from ramp.methods import discover, load_method, parse_params
from ramp.registry import load_registry
from ramp.validation import ConfigError, validate
from workflow.scripts.plan import GGML, Plan, PlanError, used_methods
from workflow.scripts.preflight import PreflightError, preflight
from workflow.scripts.sources import closure


def checked_plan():
    """The plan of the configured study; every fault of the configuration at once, before anything is planned."""
    try:
        registry = load_registry(REGISTRY)
        found = discover(BASE / "baselines")
        study = validate(config, methods=found, models=registry.of_type("model"))
        methods = {name: load_method(found[name]) for name in used_methods(study)}
        for name, values in study.params.items():
            parse_params(methods.get(name) or load_method(found[name]), values)
        plan = Plan(study, methods, registry)
        plan.task_rows, plan.target_rows  # asked for here so that their faults are told at start
        return plan
    except ConfigError as error:
        raise WorkflowError(f"the configuration has faults:\n{error}") from None
    except (RampError, PlanError) as error:
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
BARE_ROWS = ("float", "released")
ROLES = ("calibration", "train", "search", "selection", "heldout")

# ``records=published`` draws from the published records, which no rule makes.
RECORDS = local("results/published") if STUDY.records == "published" else f"{R}/records"

# What the records consist of (ramp/records.py), and what is drawn from them (paper/figures.py).
RECORD_TABLES = ("records", "windows", "items", "allocations", "episodes", "activations", "transfer", "halo")
DRAWINGS = ("figures", "tables", "paper")
PAPER_SUFFIXES = (".typ", ".yaml", ".bib", ".md")
FIGURES = ("pareto", "allocation", "learning", "outliers", "transfer")

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


def entry(wildcards):
    """The registry's entry of an asset or model: a change of one entry does not fetch the others again."""
    name = wildcards.get("asset") or wildcards.get("model")
    return PLAN.registry.get(name).model_dump_json()


def entries(names):
    """The registry's entries of several assets."""
    return [PLAN.registry.get(name).model_dump_json() for name in names]


def asset_files(names):
    """``asset.json`` of fetched assets."""
    return [f"{R}/assets/{name}/asset.json" for name in names]


def assets_folder(wildcards):
    return f"{R}/assets"


def tasks_folder(wildcards):
    return f"{R}/tasks"


def state_folder(wildcards):
    """Where searches keep their checkpoints: no rule's output, because Snakemake deletes those of a killed job."""
    return f"{R}/.state"


def is_source(wildcards):
    return wildcards.model == STUDY.source


def calibration_tokens(wildcards):
    """Tokens of calibration text for a model."""
    here = STUDY.calibration
    return here.tokens if is_source(wildcards) or here.target_tokens is None else here.target_tokens


def window_count(wildcards):
    """Evaluation windows for a model; 0 means the whole text."""
    return (LIMITS.windows if is_source(wildcards) else LIMITS.target_windows) or 0


def evaluations(wildcards):
    """Evaluations that a search may spend."""
    return LIMITS.evals if is_source(wildcards) else LIMITS.target_evals


def train_preset(wildcards):
    return PLAN.registry.get(wildcards.model).sources[0].preset


def train_seed(wildcards):
    return PLAN.registry.get(wildcards.model).sources[0].seed


def train_steps(wildcards):
    """Optimizer steps of a trained model: the study's wish, else the registry's."""
    return STUDY.train_steps or PLAN.registry.get(wildcards.model).sources[0].steps


def fold_kind(wildcards):
    return STUDY.folds[wildcards.fold].kind if wildcards.fold in STUDY.folds else "none"


def fold_bits(wildcards):
    return STUDY.folds[wildcards.fold].bits if wildcards.fold in STUDY.folds else STUDY.uniform_bits


def fold_file(wildcards):
    """The fold of a row's method."""
    return f"{R}/folds/{wildcards.model}/{PLAN.fold_of(wildcards.method)}.safetensors"


def bank_file(wildcards):
    """The bank that a method's search assembles candidates from."""
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(wildcards.method)}/bank.safetensors"


def bank_index(wildcards):
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(wildcards.method)}/bank.json"


def sensitivity_file(wildcards):
    return f"{R}/sensitivity/{wildcards.model}/{PLAN.bank_of(wildcards.method)}.json"


def method_parameters(wildcards):
    """Parameters of a method as JSON, quoted for the shell."""
    return shlex.quote(json.dumps(STUDY.params.get(wildcards.method, {}), sort_keys=True))


def method_file(wildcards):
    return local(PLAN.method_file(wildcards.method))


def search_sources(wildcards):
    return sources("ramp/search.py", PLAN.method_file(wildcards.method))


def quantize_sources(wildcards):
    return sources("ramp/quantize.py", PLAN.method_file(wildcards.method))


def allocation_of(wildcards):
    """The allocation of a mixed row; a uniform row has none."""
    name = f"{wildcards.method}-b{wildcards.budget}-s{wildcards.seed}"
    return PLAN.allocation_files(R, wildcards.model, name)


def width_option(wildcards, input):
    """What widths a row is quantized to, as an option of ``ramp.quantize``."""
    if input.allocation:
        return f"--allocation {input.allocation}"
    return f"--bits {wildcards.budget} --params {method_parameters(wildcards)}"


def policy_file(wildcards):
    """The policy that was learned on the source model."""
    return f"{R}/search/{STUDY.source}/{STUDY.transfer.method}/{wildcards.budget}/{wildcards.seed}/policy.safetensors"


def policy_index(wildcards):
    return f"{R}/search/{STUDY.source}/{STUDY.transfer.method}/{wildcards.budget}/{wildcards.seed}/policy.json"


def transfer_bank(wildcards):
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(STUDY.transfer.method)}/bank.safetensors"


def transfer_fold(wildcards):
    return f"{R}/folds/{wildcards.model}/{PLAN.fold_of(STUDY.transfer.method)}.safetensors"


def row_weights(wildcards):
    """A row's packed weights; the float model and the released file have none of their own."""
    model, row = wildcards.model, wildcards.row
    if row.startswith(("float-b", "released-b")):
        return []
    if row.endswith(GGML):
        return f"{R}/halo/{model}/{row.removesuffix(GGML)}.gguf"
    return f"{R}/quantized/{model}/{row}/model.safetensors"


def row_allocation(wildcards):
    """The allocation behind a row, where it has one."""
    return PLAN.allocation_files(R, wildcards.model, wildcards.row)


def allocation_option(wildcards, input):
    return f"--allocation {input.allocation}" if input.allocation else ""


def reference_files(wildcards):
    """Float references on all texts that a model is scored on."""
    return [f"{R}/reference/{wildcards.model}/{text}.safetensors" for text in PLAN.texts(wildcards.model)]


def same_network(wildcards):
    """Metrics that a row shares: the released file is the float model's network, with another size."""
    float_row = wildcards.row.replace("released-", "float-", 1)
    return f"{R}/metrics/{wildcards.model}/{float_row}.json" if float_row != wildcards.row else []


def measured_on(wildcards, input):
    """What a row is measured on, as an option of ``ramp.evaluation row``."""
    if input.same_as:
        return f"--same-as {input.same_as}"
    return "--reference " + " ".join(f"{Path(file).stem}={file}" for file in input.references)


def halo_paths(ending):
    """Files of all exports of the source model, and of the float32 file that they are compared with."""
    rows = [row.name for row in PLAN.halo_rows]
    rows += [row.name for row in PLAN.reference_rows(STUDY.source) if rows and row.method == "float"]
    return [f"{R}/halo/{STUDY.source}/{row}.{ending}" for row in rows]


def agreement_limit(wildcards):
    """How far llama.cpp's perplexity may lie from transformers': the float32 file has a limit of its own."""
    return STUDY.halo.float_limit if wildcards.row.startswith("float-b") else STUDY.halo.limit


def row_paths(pattern):
    """A file of every row, exported ones included."""
    names = [(row.model, row.name) for row in PLAN.rows] + [(row.model, row.name + GGML) for row in PLAN.halo_rows]
    return [f"{R}/{pattern}".format(model=model, row=name) for model, name in names]


def mixed_paths(pattern, searched=False):
    """A file of every mixed row; with ``searched`` only of those that come from a search of their own."""
    methods = set(PLAN.allocators) if searched else {*PLAN.allocators, PLAN.transferred}
    rows = [row for row in PLAN.rows if row.method in methods]
    return [f"{R}/{pattern}".format(model=r.model, method=r.method, budget=r.budget, seed=r.seed) for r in rows]


def score_paths():
    """Task scores of the rows that have them."""
    return [f"{R}/tasks_scored/{row.model}/{row.name}.json" for row in PLAN.task_rows]


def fold_paths(model):
    """All folds of a model that the study's methods use."""
    names = {PLAN.fold_of(row.method) for row in PLAN.rows if row.model == model and row.method not in BARE_ROWS}
    return [f"{R}/folds/{model}/{fold}.safetensors" for fold in sorted(names - {"none"})]


def activation_pairs(wildcards, input):
    """The source's statistics as they are, and after each of its folds."""
    return [input.statistics, *[f"{input.statistics}={fold}" for fold in fold_paths(STUDY.source)]]


def model_folders(wildcards, input):
    return [str(Path(file).parent) for file in input.models]


def config_hash(wildcards):
    """Twelve digits that name the whole configuration, defaults included."""
    return hashlib.sha256(STUDY.model_dump_json().encode()).hexdigest()[:12]


def results_folder(wildcards):
    return R


def draws_only():
    """Whether drawings alone were asked for, and the records that they are drawn from are there."""
    asked = {str(target) for target in workflow.dag_settings.targets}
    drawings = all(target in DRAWINGS or target.startswith(f"{R}/paper/") for target in asked)
    return bool(asked) and drawings and Path(RECORDS, "claims.json").is_file()


def recorded(name):
    """A file of the records. Whoever asks for drawings alone gets them from the records as they are.

    Snakemake looks for no producer of a file marked ``before_update``, so nothing upstream of it is planned.
    """
    file = f"{RECORDS}/{name}"
    return before_update(file) if draws_only() else file


def record_tables(wildcards):
    """The records that everything a reader sees is drawn from."""
    return [recorded(f"{name}.csv") for name in RECORD_TABLES]


def claims_file(wildcards):
    return recorded("claims.json")


def paper_sources():
    """The paper's text, references and claims."""
    return [
        local(file.relative_to(BASE)) for file in sorted((BASE / "paper").iterdir()) if file.suffix in PAPER_SUFFIXES
    ]


def whole_configuration(wildcards):
    """The study with all its defaults as JSON, quoted for the shell."""
    return shlex.quote(json.dumps(STUDY.model_dump(mode="json"), indent=1, sort_keys=True))


def method_sources():
    """All method files and what they stand on."""
    return sources(*[f"baselines/{path.name}" for path in discover(BASE / "baselines").values()])


def contract_tests():
    return [local(file.relative_to(BASE)) for file in sorted((BASE / "tests" / "contract").glob("test_*.py"))]


def project_folder(wildcards):
    return local(".")


def check_machine():
    """What has to be there before the first job; told in one sentence."""
    try:
        preflight(STUDY, PLAN.registry, jobs_run_here=workflow.local_exec)
    except PreflightError as error:
        raise WorkflowError(str(error)) from None
