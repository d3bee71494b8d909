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
    """How a fold is searched, as ramp.folding's arguments."""
    return STUDY.folds[wildcards.fold].options() if wildcards.fold in STUDY.folds else ["--kind", "none"]


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


def package_sources(wildcards):
    """What the study's own environment runs, and what the package's does."""
    return sources("ramp/package_job.py", "ramp/package_run.py", PLAN.method_file(wildcards.method))


def environment_file(wildcards):
    """The record of a package's environment; none where the method says that it cannot run here."""
    method = PLAN.methods[wildcards.method]
    return [] if method.skip() else f"{ENVS}/{method.env_name}/environment.json"


def environment_option(wildcards, input):
    return f"--environment {input.environment}" if input.environment else ""


def requirements_of(wildcards):
    """What an environment is made of."""
    return PLAN.environments[wildcards.environment]


def external_paths(pattern):
    """A file of the source's reference rows and of every row that goes through a package."""
    rows = [*PLAN.reference_rows(STUDY.source), *PLAN.external_rows]
    return [f"{R}/{pattern}".format(model=row.model, row=row.name) for row in rows]


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
    if row.startswith(("float-b", "released-b")) or PLAN.is_mix(row):  # a mix's file lies in the row's folder
        return []
    if PLAN.is_package(row):
        return []  # a package that did not run leaves none, so no rule can promise them
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


def mix_calibration(wildcards):
    """The statistics behind a mix's importance matrix, where it has one."""
    has_one = PLAN.methods[wildcards.method].importance
    return f"{R}/calibration/{wildcards.model}.safetensors" if has_one else []


def calibration_option(wildcards, input):
    return f"--calibration {input.calibration}" if input.calibration else ""


def mix_sources(wildcards):
    return sources("ramp/static_mix.py", PLAN.method_file(wildcards.method))


def agreement_limit(wildcards):
    """How far llama.cpp's perplexity may lie from transformers': the float32 file has a limit of its own."""
    return STUDY.halo.float_limit if wildcards.row.startswith("float-b") else STUDY.halo.limit


def row_paths(pattern):
    """A file of every row, exported ones included."""
    names = [(row.model, row.name) for row in PLAN.rows]
    names += [(row.model, row.name + GGML) for row in [*PLAN.halo_rows, *PLAN.mix_rows]]
    names += [(row.model, f"{row.name}-{track}") for row, track in PLAN.track_rows]
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
    return [recorded(f"{name}.csv") for name in RECORD_TABLES] + compared_tables()


def compared_tables():
    """Comparisons with other implementations: waited for where they are asked for, else taken as they are, if at all."""
    asked = {str(target) for target in workflow.dag_settings.targets}
    found = []
    for name in COMPARED_TABLES:
        file = f"{RECORDS}/{name}.csv"
        if name in asked:
            found.append(file)
        elif Path(file).is_file():
            found.append(before_update(file))
    return found


def comparison_pieces(wildcards):
    return [f"{R}/compared/{name}.json" for name in pieces_of(wildcards.table)]


def compared_model(wildcards):
    return f"{R}/models/{STUDY.source}/asset.json" if PIECES[wildcards.comparison].model else []


def compared_texts(wildcards):
    """Calibration text, then held-out text, of the comparisons that read them."""
    piece = PIECES[wildcards.comparison]
    roles = [*(["calibration"] if piece.model else []), *(["heldout"] if piece.heldout else [])]
    return [f"{R}/texts/{role}.jsonl" for role in roles]


def compared_package(wildcards):
    """The file in baselines/ of the package that ours is compared with."""
    package = PIECES[wildcards.comparison].package
    return local(f"baselines/{package}.py") if package else []


def compared_environment(wildcards):
    package = PIECES[wildcards.comparison].package
    return f"{ENVS}/{load_method(BASE / 'baselines' / f'{package}.py').env_name}/environment.json" if package else []


def compared_sources(wildcards):
    """What both sides of a comparison run."""
    piece = PIECES[wildcards.comparison]
    package = [f"baselines/{piece.package}.py"] if piece.package else []
    return sources(f"benchmarks/{piece.module}.py", *package)


def compared_command(wildcards, input):
    """The command line of a comparison, without its output."""
    texts = [input.texts] if isinstance(input.texts, str) else list(input.texts)
    files = dict(zip(("text", "heldout"), texts, strict=False))
    files["model"] = str(Path(str(input.model)).parent)
    files["package"] = str(input.package)
    files["python"] = str(Path(str(input.environment)).parent / "bin" / "python")
    return PIECES[wildcards.comparison].command(files)


def claims_file(wildcards):
    return recorded("claims.json")


def recorded_files():
    return [*[f"{RECORDS}/{name}.csv" for name in RECORD_TABLES], f"{RECORDS}/claims.json"]


def paper_sources():
    """The paper's text, references and claims."""
    return [
        local(file.relative_to(BASE)) for file in sorted((BASE / "paper").iterdir()) if file.suffix in PAPER_SUFFIXES
    ]


def whole_configuration(wildcards):
    """The study with all its defaults as JSON, quoted for the shell."""
    return shlex.quote(json.dumps(STUDY.model_dump(mode="json"), indent=1, sort_keys=True))


def published_records():
    """Published records, whose rows of packages stand in the tables of a study that does not run them."""
    ran = STUDY.depth == "full" or STUDY.records == "published"
    return [local(PUBLISHED / name) for name in PUBLISHED_USED if not ran and (BASE / PUBLISHED / name).is_file()]


def published_option(wildcards, input):
    return f"--published {Path(input.published[0]).parent}" if input.published else ""


def checked_methods():
    """The method file that is checked, or all of them, and what they stand on."""
    found = discover(BASE / "baselines")
    names = [STUDY.baseline] if STUDY.baseline else [*found]
    return sources(*[f"baselines/{found[name].name}" for name in names])


def checked_names(wildcards):
    """Which of the contract tests run: those of one file, or all."""
    return f'-k "[{STUDY.baseline}] or [{STUDY.baseline}-"' if STUDY.baseline else ""


def contract_tests():
    return [local(file.relative_to(BASE)) for file in sorted((BASE / "tests" / "contract").glob("test_*.py"))]


def project_folder(wildcards):
    return local(".")
