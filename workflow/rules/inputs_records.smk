# Input functions of what comes after the rows: records, comparisons, drawings, the paper, the checks.


def row_paths(pattern):
    """A file of every row, exported ones included."""
    names = [(row.model, row.name) for row in PLAN.rows]
    names += [(row.model, row.name + GGML) for row in [*PLAN.halo_rows, *PLAN.mix_rows]]
    names += [(row.model, f"{row.name}-{track}") for row, track in PLAN.track_rows]
    return [f"{R}/{pattern}".format(model=model, row=name) for model, name in names]


def mixed_paths(pattern, searched=False):
    """A file of every mixed row; with ``searched`` only of those that come from a search of their own."""
    methods = set(PLAN.allocators) if searched else {*PLAN.allocators, *PLAN.transferred}
    rows = [row for row in PLAN.rows if row.method in methods - set(PLAN.unable)]
    return [f"{R}/{pattern}".format(model=r.model, method=r.method, budget=r.budget, seed=r.seed) for r in rows]


def score_paths():
    """Task scores of the rows that have them."""
    return [f"{R}/tasks_scored/{row.model}/{row.name}.json" for row in PLAN.task_rows]


def fold_paths(model):
    """All folds of a model that the study's methods use."""
    bare = {*BARE_ROWS, *PLAN.unable}
    names = {PLAN.fold_of(row.method) for row in PLAN.rows if row.model == model and row.method not in bare}
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
    return [recorded(f"{name}.csv") for name in RECORD_TABLES] + compared_tables() + league_tables()


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


def comparison_threads(wildcards):
    """As many as there are where time is measured: such a piece has the machine to itself."""
    return 1024 if PIECES[wildcards.comparison].timed else 1


def compared_command(wildcards, input):
    """The command line of a comparison, without its output."""
    texts = [input.texts] if isinstance(input.texts, str) else list(input.texts)
    files = dict(zip(("text", "heldout"), texts, strict=False))
    files["model"] = str(Path(str(input.model)).parent)
    files["package"] = str(input.package)
    files["python"] = str(Path(str(input.environment)).parent / "bin" / "python")
    return PIECES[wildcards.comparison].command(files)


def given_configfiles(wildcards):
    """The option that names the configuration files of the command line; nothing where the default one is used."""
    files = [local(file) if file.is_relative_to(BASE) else str(file) for file in workflow.overwrite_configfiles]
    return shlex.join(["--configfiles", *files]) if files else ""


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
    ran = STUDY.runs_packages or STUDY.records == "published"
    return [local(PUBLISHED / name) for name in PUBLISHED_USED if not ran and (BASE / PUBLISHED / name).is_file()]


def published_option(wildcards, input):
    return f"--published {Path(input.published[0]).parent}" if input.published else ""


def checked_methods():
    """The method file that is checked, or all of them, and what they stand on."""
    found = discover(BASE / "baselines")
    names = [STUDY.baseline] if STUDY.baseline else [*found]
    return sources(*[f"baselines/{found[name].name}" for name in names])


def made_environments():
    """Environments of the checked packages that are there; the check makes none."""
    found = discover(BASE / "baselines")
    names = [name for name in package_files(found) if STUDY.baseline in (None, name)]
    files = [f"{ENVS}/{load_method(found[name]).env_name}/environment.json" for name in names]
    return [before_update(file) for file in dict.fromkeys(files) if Path(file).is_file()]


def checked_names(wildcards):
    """Which of the contract tests run: those of one file, or all."""
    return f'-k "[{STUDY.baseline}] or [{STUDY.baseline}-"' if STUDY.baseline else ""


def contract_tests():
    return [local(file.relative_to(BASE)) for file in sorted((BASE / "tests" / "contract").glob("test_*.py"))]


def project_folder(wildcards):
    return local(".")
