# Input functions and parameters of the rules, in the order in which data passes. No rule stands here.


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


def sensitivity_windows(wildcards):
    """Windows of text that sensitivities of a model are measured on."""
    here = STUDY.sensitivity
    return here.windows if is_source(wildcards) or here.target_windows is None else here.target_windows


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


def fold_options(wildcards):
    """How a fold is searched, as ramp.calibration.folding's arguments."""
    settings = PLAN.fold_settings(wildcards.fold)
    return ["--kind", "none"] if settings is None else settings.options()


def fold_file(wildcards):
    """The fold of a row: for uniform rows, of their own width."""
    fold = PLAN.fold_of(wildcards.method, getattr(wildcards, "budget", None))
    return f"{R}/folds/{wildcards.model}/{fold}.safetensors"


def bank_file(wildcards):
    """The bank that a method's search assembles candidates from."""
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(wildcards.method)}/bank.safetensors"


def bank_index(wildcards):
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(wildcards.method)}/bank.json"


def sensitivity_file(wildcards):
    """The additive sensitivities that a method names."""
    return f"{R}/sensitivity/{wildcards.model}/{PLAN.sensitivities_of(wildcards.method)}"


def proxy_module(wildcards):
    """The stage that makes sensitivities of a kind: ``error_plain`` comes from ramp.sensitivity.weight_error."""
    modules = {"error": "sensitivity.weight_error", "kl": "sensitivity.measured_kl"}
    return modules[wildcards.proxy.partition("_")[0]]


def proxy_sources(wildcards):
    return sources(f"ramp/{proxy_module(wildcards).replace('.', '/')}.py")


def method_parameters(wildcards):
    """Parameters of a method as JSON, quoted for the shell."""
    return shlex.quote(json.dumps(STUDY.params.get(wildcards.method, {}), sort_keys=True))


def method_file(wildcards):
    return local(PLAN.method_file(wildcards.method))


def search_sources(wildcards):
    return sources("ramp/search/__main__.py", PLAN.method_file(wildcards.method))


def quantize_sources(wildcards):
    return sources("ramp/rows/quantize.py", PLAN.method_file(wildcards.method))


def package_sources(wildcards):
    """What the study's own environment runs, and what the package's does."""
    return sources("ramp/packages/prepare_job.py", "ramp/packages/run_job.py", PLAN.method_file(wildcards.method))


def environment_file(wildcards):
    """The record of a package's environment; none where the method cannot run here or has not the width."""
    environment = PLAN.environment_of(wildcards.method, wildcards.budget)
    return f"{ENVS}/{environment}/environment.json" if environment else []


def environment_option(wildcards, input):
    return f"--environment {input.environment}" if input.environment else ""


def requirements_of(wildcards):
    """What an environment is made of."""
    return PLAN.environments[wildcards.environment]


def constraints_of(wildcards):
    """The committed versions of everything in an environment; none for one that nobody has frozen yet."""
    file = BASE / "workflow" / "envs" / f"{wildcards.environment}.constraints.txt"
    return file if file.is_file() else None


def constraints_option(wildcards):
    file = constraints_of(wildcards)
    return f"--constraints {local(file.relative_to(BASE))}" if file else ""


def constraints_digest(wildcards):
    file = constraints_of(wildcards)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file else ""


def external_paths(pattern):
    """A file of the source's reference rows and of every row that goes through a package."""
    rows = [*PLAN.reference_rows(STUDY.source), *PLAN.external_rows]
    return [f"{R}/{pattern}".format(model=row.model, row=row.name) for row in rows]


def allocation_of(wildcards):
    """The allocation of a mixed row; a uniform row has none."""
    name = f"{wildcards.method}-b{wildcards.budget}-s{wildcards.seed}"
    return PLAN.allocation_files(R, wildcards.model, name)


def width_option(wildcards, input):
    """What widths a row is quantized to, as an option of ``ramp.rows.sequential``."""
    if input.allocation:
        return f"--allocation {input.allocation}"
    return f"--bits {wildcards.budget} --params {method_parameters(wildcards)}"


def reason_of(wildcards):
    """Why a method has no numbers here, quoted for the shell."""
    return shlex.quote(PLAN.unable[wildcards.method])


def row_group_size(wildcards):
    """Group size of a uniform row: its method's own, where it has one."""
    return getattr(PLAN.methods.get(wildcards.method), "group_size", None) or STUDY.group_size


def row_fold(wildcards):
    return PLAN.fold_of(wildcards.method, wildcards.budget)


def row_kind(wildcards):
    """How the records call a row that cannot be made: uniform, or mixed by an allocator that was not asked."""
    return "not run" if wildcards.method in {*PLAN.allocators, *PLAN.transferred} else "uniform"


def policy_file(wildcards):
    """The policy that was learned on the source model."""
    method = PLAN.transferred[wildcards.method]
    return f"{R}/search/{STUDY.source}/{method}/{wildcards.budget}/{wildcards.seed}/policy.safetensors"


def policy_index(wildcards):
    return str(Path(policy_file(wildcards)).with_name("policy.json"))


def transfer_bank(wildcards):
    return f"{R}/bank/{wildcards.model}/{PLAN.bank_of(wildcards.method)}/bank.safetensors"


def transfer_fold(wildcards):
    return f"{R}/folds/{wildcards.model}/{PLAN.fold_of(wildcards.method)}.safetensors"


def row_weights(wildcards):
    """A row's packed weights; the float model and the released file have none of their own."""
    model, row = wildcards.model, wildcards.row
    if row.startswith(("float-b", "released-b")) or PLAN.is_mix(row):  # a mix's file lies in the row's folder
        return []
    if PLAN.is_package(row) or PLAN.is_unable(row):
        return []  # what did not run leaves none, and of a package no rule can promise them
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
    """What a row is measured on, as an option of ``ramp.evaluation.evaluate row``."""
    if input.same_as:
        return f"--same-as {input.same_as}"
    return "--reference " + " ".join(f"{Path(file).stem}={file}" for file in input.references)


def halo_paths(ending):
    """Files of all exports of the source model, and of the float32 file that they are compared with."""
    rows = [row.name for row in PLAN.halo_rows]
    rows += [row.name for row in PLAN.reference_rows(STUDY.source) if rows and row.method == "float"]
    return [f"{R}/halo/{STUDY.source}/{row}.{ending}" for row in rows]


def mix_calibration(wildcards):
    """The statistics behind a mix's importance matrix, where it has one."""
    has_one = PLAN.methods[wildcards.method].importance
    return f"{R}/calibration/{wildcards.model}.safetensors" if has_one else []


def calibration_option(wildcards, input):
    return f"--calibration {input.calibration}" if input.calibration else ""


def mix_sources(wildcards):
    return sources("ramp/export/static_mix.py", PLAN.method_file(wildcards.method))


def agreement_limit(wildcards):
    """How far llama.cpp's perplexity may lie from transformers': the float32 file has a limit of its own."""
    return STUDY.halo.float_limit if wildcards.row.startswith("float-b") else STUDY.halo.limit
