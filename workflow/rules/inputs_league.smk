# Input functions and parameters of the league, of the exact optimum and of the folds' ablation.

from types import SimpleNamespace

from workflow.scripts.plan_league import LeagueRun, base_of, run_words

LEAGUE_RECORDS = ("league", "league_windows", "league_curves")
OPTIMUM_RECORDS = ("optimum", "additivity")
FOLD_RECORDS = ("folding", "folding_windows")


def league_run_of(wildcards):
    """The run that a file's name speaks of."""
    w = wildcards
    return LeagueRun(w.model, w.allocator, w.budget, int(w.evals), int(w.seed))


def league_file(run):
    return f"{R}/league/{run.model}/{run.allocator}/{run.budget}/{run.evals}/{run.seed}.json"


def behind(wildcards):
    """The wildcards of the method behind an allocator, as the search's own input functions ask for them."""
    return SimpleNamespace(model=wildcards.model, method=base_of(STUDY, wildcards.allocator))


def league_bank(wildcards):
    return bank_file(behind(wildcards))


def league_bank_index(wildcards):
    return bank_index(behind(wildcards))


def league_fold(wildcards):
    return fold_file(behind(wildcards))


def league_sensitivity(wildcards):
    return sensitivity_file(behind(wildcards))


def league_method_file(wildcards):
    return method_file(behind(wildcards))


def league_sources(wildcards):
    return sources("ramp/league/__main__.py", PLAN.method_file(behind(wildcards).method))


def league_accepted(wildcards):
    """The record that a model trained here is worth quantizing; nothing for models of others."""
    return f"{R}/league/{wildcards.model}/accepted.json" if PLAN.league.is_trained(wildcards.model) else []


def accepted_option(wildcards, input):
    return f"--accepted {input.accepted}" if input.accepted else ""


def league_parameters(wildcards):
    """All parameters of an allocator as JSON, quoted for the shell."""
    return shlex.quote(json.dumps(PLAN.league.params(wildcards.allocator), sort_keys=True))


def league_title(wildcards):
    return shlex.quote(PLAN.league.title(wildcards.allocator))


def league_checkpoints(wildcards):
    return PLAN.league.grid_of(league_run_of(wildcards)).checkpoints


def league_search(wildcards):
    """Windows and length of the search text, and windows of the selection text."""
    text = PLAN.league.search_on(league_run_of(wildcards))
    return (
        f"--search-windows {text.windows} --search-length {text.length}"
        f" --selection-windows {text.selection_windows or 0}"
    )


def league_heldout(wildcards):
    """Windows and length of the held-out text."""
    places = PLAN.league.heldout(league_run_of(wildcards))
    return f"--heldout-windows {places.windows} --heldout-length {places.length}"


def league_points(wildcards):
    return PLAN.league.curve_points(league_run_of(wildcards))


def collected_runs():
    """Every run; with ``partial`` those that are there, and none is started."""
    partial = STUDY.league is not None and STUDY.league.partial
    return [run for run in PLAN.league.runs if not partial or Path(league_file(run)).is_file()]


def league_files(wildcards):
    """Their files; with ``partial`` as they are."""
    files = [league_file(run) for run in collected_runs()]
    return [before_update(file) for file in files] if STUDY.league and STUDY.league.partial else files


def league_words(wildcards):
    """The same files in fewer words: bash expands them for its own printf, which takes as many as there are."""
    return run_words(f"{R}/league", collected_runs())


def league_planned(wildcards):
    """How many runs the grids have, also where fewer are collected: the paper says what share it speaks from."""
    return len(PLAN.league.runs)


def optimum_name():
    """What the enumerated problems are called: halves-8."""
    return f"{PLAN.league.optimum.units}-{PLAN.league.optimum.count}" if STUDY.optimum else "none"


def optimum_method(wildcards):
    """The first allocator names the bank; the plan checked that the others share it."""
    return SimpleNamespace(model=wildcards.model, method=base_of(STUDY, PLAN.league.optimum.methods[0]))


def optimum_bank(wildcards):
    return bank_file(optimum_method(wildcards))


def optimum_bank_index(wildcards):
    return bank_index(optimum_method(wildcards))


def optimum_fold(wildcards):
    return fold_file(optimum_method(wildcards))


def optimum_sources(wildcards):
    return sources("ramp/optimum/run.py", PLAN.method_file(behind(wildcards).method))


def optimum_seeds(wildcards):
    """Seeds of an allocator: one where nothing is drawn."""
    seeds = PLAN.league.optimum.seeds
    return seeds[:1] if base_of(STUDY, wildcards.allocator) in STUDY.deterministic else seeds


def optimum_enumerations(wildcards):
    return [f"{R}/optimum/{model}/{optimum_name()}.json" for model in PLAN.league.optimum.models]


def optimum_files(wildcards):
    here = PLAN.league.optimum
    return [f"{R}/optimum/{model}/{optimum_name()}/{name}.json" for model in here.models for name in here.methods]


def league_tables():
    """Tables beside the study's own rows: made where the study has their section, else taken as they are, if at all."""
    sections = ((STUDY.league, LEAGUE_RECORDS), (STUDY.optimum, OPTIMUM_RECORDS), (STUDY.fold_ablation, FOLD_RECORDS))
    found = []
    for section, names in sections:
        made = section is not None and STUDY.records != "published" and not draws_only()
        for name in names:
            file = f"{RECORDS}/{name}.csv"
            if made:
                found.append(file)
            elif Path(file).is_file():
                found.append(before_update(file))
    return found


def optimum_places(wildcards):
    """Windows and length of the enumerated text."""
    places = PLAN.league.optimum.text
    return f"--windows {places.windows} --length {places.length}"


def optimum_widths(wildcards):
    return PLAN.league.optimum.widths


def optimum_budgets(wildcards):
    return [f"{budget:g}" for budget in PLAN.league.optimum.budgets]


def optimum_checkpoints(wildcards):
    return PLAN.league.optimum.checkpoints


def fold_run_files(wildcards):
    """Every row of the folds' ablation; with ``partial`` those that are there, as they are."""
    files = [f"{R}/fold_ablation/{run.model}/{run.file}/{run.method}-b{run.bits}.json" for run in PLAN.folds.runs]
    if PLAN.folds.section.partial:
        return [before_update(file) for file in files if Path(file).is_file()]
    return files


def fold_run_method(wildcards):
    """The quantizer's file; the folded float model has none."""
    if wildcards.method in BARE_ROWS:
        return []
    return local(PLAN.method_file(base_of(STUDY, wildcards.method)))


def fold_run_sources(wildcards):
    if wildcards.method in BARE_ROWS:
        return sources("ramp/league/fold_ablation.py")
    return sources("ramp/league/fold_ablation.py", PLAN.method_file(base_of(STUDY, wildcards.method)))


def fold_run_options(wildcards, input):
    """The method of a row, its parameters and what tables call it."""
    if wildcards.method in BARE_ROWS:
        return f"--method-file {wildcards.method}"
    named = (
        f"--method-file {input.method} --method-name {wildcards.method} --title {league_title(behind_fold(wildcards))}"
    )
    return f"{named} --params {league_parameters(behind_fold(wildcards))}"


def behind_fold(wildcards):
    """The wildcards as the league's own functions ask for them."""
    return SimpleNamespace(allocator=wildcards.method)


def fold_run_name(wildcards):
    """What the configuration calls the fold in a file."""
    return PLAN.folds.fold_of(wildcards.file)


def fold_places(wildcards):
    """Windows and length of the held-out text."""
    places = PLAN.folds.section.heldout
    return f"--windows {places.windows} --length {places.length}"
