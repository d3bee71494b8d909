"""Files that rules take as inputs, by the wildcards of a rule: each method returns the file or files of one kind.

Arguments bear the names of wildcards, so that a rule binds them by name (``by`` in workflow/rules/common.smk). A
list is empty where a row has no such file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ramp.core.source_closure import closure
from ramp.methods.kinds import Mix, Package
from ramp.methods.loader import discover, split_reference
from ramp.sensitivity.kinds import DEFAULT, SENSITIVITIES
from ramp.study.config import Study
from ramp.study.plan import Plan
from ramp.study.row_names import FLOAT, GGML, RELEASED, Row

BARE = (FLOAT, RELEASED)
_PAPER = (".typ", ".yaml", ".bib", ".md")


@dataclass(frozen=True)
class RuleFiles:
    """Input files of the rules."""

    plan: Plan
    root: Path  # the project
    environments: str  # folder of the packages' environments
    local: Callable[[str | Path], str]  # a path of the project as seen from the working directory

    @property
    def study(self) -> Study:
        """The configuration."""
        return self.plan.study

    @property
    def results(self) -> str:
        """Folder of all outputs."""
        return self.study.results

    def folder(self, name: str = "") -> str:
        """Return a folder of the results. ``.state`` holds checkpoints: Snakemake deletes outputs of a killed job."""
        return f"{self.results}/{name}" if name else self.results

    # --- sources -----------------------------------------------------------------------------------------------

    def sources(self, *files: str) -> list[str]:
        """Return ``files`` and all project modules that they import, for a rule's ``code`` input."""
        return [self.local(file) for file in closure(self.root, *files)]

    def stage(self, stage: str, method: str) -> list[str]:
        """Return the sources of a stage (or of several, with blanks between them) and of the method that it runs."""
        own = [] if method in BARE else [str(split_reference(self.plan.reference(method))[0])]
        return self.sources(*stage.split(), *own)

    def proxy_text(self, proxy: str = DEFAULT) -> str:
        """Return the text that sensitivities of a kind are measured on: search text for Fisher's."""
        return f"{self.results}/texts/{'search' if proxy == DEFAULT else 'calibration'}.jsonl"

    def proxy_stage(self, proxy: str = DEFAULT) -> list[str]:
        """Return the sources of the stage that makes sensitivities of a kind."""
        return self.sources("ramp/sensitivity/__main__.py", f"{SENSITIVITIES[proxy].replace('.', '/')}.py")

    def method(self, method: str) -> list[str]:
        """Return the file that registers a method; the float model and the released file have none."""
        return [] if method in BARE else [self.local(split_reference(self.plan.reference(method))[0])]

    def checked(self) -> list[str]:
        """Return the sources of the method file that ``baseline_check`` tests, or of all of them."""
        catalog = discover(self.root / "baselines")
        names = [self.study.baseline] if self.study.baseline else list(catalog)
        broken = [f"baselines/{name}.py" for name in names if name in catalog.broken]  # the tests say what is wrong
        files = {str(catalog.files[name].relative_to(self.root)) for name in names if name not in catalog.broken}
        return [*self.sources(*sorted(files)), *map(self.local, broken)]

    def checked_environments(self) -> list[str]:
        """Return the environments of the checked packages that are there; the check makes none."""
        names, methods = self.study.baseline, discover(self.root / "baselines").methods
        found = [each for name, each in methods.items() if isinstance(each, Package) and names in (None, name)]
        files = dict.fromkeys(f"{self.environments}/{package.env_name}/environment.json" for package in found)
        return [file for file in files if Path(file).is_file()]

    # --- calibration, banks, searches --------------------------------------------------------------------------

    def assets(self, names: Iterable[str]) -> list[str]:
        """Return ``asset.json`` of fetched assets."""
        return [f"{self.results}/assets/{name}/asset.json" for name in names]

    def fold(self, model: str, method: str, budget: str | None = None) -> str:
        """Return the fold of a method's rows; of a uniform row, that of its own width ``budget``, if it has one."""
        return f"{self.results}/folds/{model}/{self.plan.fold_of(method, budget)}.safetensors"

    def shared_fold(self, model: str, method: str) -> str:
        """Return the fold that all widths of a method share: that of its bank."""
        return self.fold(model, method)

    def folds(self, model: str) -> list[str]:
        """Return all folds of a model that the study's methods use."""
        bare = {*BARE, *self.plan.unable}
        found = {
            self.plan.fold_of(row.method) for row in self.plan.rows if row.model == model and row.method not in bare
        }
        names = sorted(fold.name for fold in found if fold.name != "none")
        return [f"{self.results}/folds/{model}/{name}.safetensors" for name in names]

    def bank(self, model: str, method: str) -> str:
        """Return the bank that a method's search assembles candidates from."""
        return f"{self.results}/bank/{model}/{self.plan.bank_of(method)}/bank.safetensors"

    def bank_index(self, model: str, method: str) -> str:
        """Return the index of that bank."""
        return f"{self.results}/bank/{model}/{self.plan.bank_of(method)}/bank.json"

    def sensitivity(self, model: str, method: str) -> str:
        """Return the additive sensitivities that a method names."""
        return f"{self.results}/sensitivity/{model}/{self.plan.sensitivities_of(method)}"

    def policy(self, method: str, budget: str, seed: str) -> str:
        """Return the policy that a transferred method's base left on the source model."""
        base = self.plan.transferred[method]
        return f"{self.results}/search/{self.study.source}/{base}/{budget}/{seed}/policy.safetensors"

    def policy_index(self, method: str, budget: str, seed: str) -> str:
        """Return the description of that policy."""
        return str(Path(self.policy(method, budget, seed)).with_name("policy.json"))

    def accepted(self, model: str) -> list[str]:
        """Return the record that a model trained by the workflow is worth quantizing; others need none."""
        return [f"{self.results}/league/{model}/accepted.json"] if model in self.plan.trained else []

    def environment(self, method: str, budget: str) -> list[str]:
        """Return the record of a package's environment; none where the method cannot run or lacks the width."""
        environment = self.plan.environment_of(method, budget)
        return [f"{self.environments}/{environment}/environment.json"] if environment else []

    def constraints(self, environment: str) -> list[Path]:
        """Return the committed versions of an environment; none before they are frozen."""
        file = self.root / "workflow" / "envs" / f"{environment}.constraints.txt"
        return [file] if file.is_file() else []

    # --- rows ----------------------------------------------------------------------------------------------------

    def of_rows(self, pattern: str, rows: Iterable[Row]) -> list[str]:
        """Return one file of every row: ``pattern`` holds {model}, {row}, {method}, {budget} and {seed}."""
        return [f"{self.results}/{pattern}".format(row=row.name, **vars(row)) for row in rows]

    def allocation(self, model: str, method: str, budget: str, seed: str) -> list[str]:
        """Return the allocation of a mixed row; a uniform row has none."""
        mixed = method in self.plan.mixed
        return [f"{self.results}/allocations/{model}/{method}/{budget}/{seed}.json"] if mixed else []

    def row_allocation(self, model: str, row: str) -> list[str]:
        """Return the allocation of a row by its name, which may end in its grid or track."""
        parts = Row.parse(row)
        return self.allocation(model, parts.method, parts.budget, str(parts.seed))

    def weights(self, model: str, row: str) -> list[str]:
        """Return a row's packed weights, where a rule promises some; of an exported row, the GGUF file."""
        parts = Row.parse(row, model)
        if parts.ending == GGML and parts.method in self.plan.mixed:
            return [f"{self.results}/halo/{model}/{row.removesuffix('-' + GGML)}.gguf"]
        return [f"{self.results}/quantized/{model}/{row}/model.safetensors"] if self.plan.has_weights(parts) else []

    def references(self, model: str) -> list[str]:
        """Return the float references on all texts that a model is scored on."""
        return [f"{self.results}/reference/{model}/{text}.safetensors" for text in self.plan.texts(model)]

    def same_network(self, model: str, row: str) -> list[str]:
        """Return the metrics that a row shares: the released file is the float model's network, with another size."""
        parts = Row.parse(row)
        name = f"{FLOAT}-b{parts.budget}-s{parts.seed}"
        return [f"{self.results}/metrics/{model}/{name}.json"] if parts.method == RELEASED else []

    def mix_calibration(self, model: str, method: str) -> list[str]:
        """Return the statistics behind a mix's importance matrix, where it has one."""
        mix = self.plan.method(method)
        has_one = isinstance(mix, Mix) and mix.importance
        return [f"{self.results}/calibration/{model}.safetensors"] if has_one else []

    def products(self) -> list[str]:
        """Return what a user keeps of a study besides its records and paper: packed rows and GGUF files."""
        if self.study.records is not None:
            return []
        rows = [*self.plan.rows, *self.plan.track_rows]
        packed = [row for row in rows if self.plan.has_weights(row)]
        files = [f"quantized/{{model}}/{{row}}/{name}" for name in ("meta.json", "model.safetensors")]
        gguf = self.of_rows("halo/{model}/{row}.gguf", self.plan.gguf_rows)
        return [*(path for file in files for path in self.of_rows(file, packed)), *gguf]

    def paper_sources(self) -> list[str]:
        """Return the paper's text, references and claims."""
        files = sorted((self.root / "paper").iterdir())
        return [self.local(file.relative_to(self.root)) for file in files if file.suffix in _PAPER]

    def contract_tests(self) -> list[str]:
        """Return the tests that every file in baselines/ has to pass."""
        files = sorted((self.root / "tests" / "contract").glob("test_*.py"))
        return [self.local(file.relative_to(self.root)) for file in files]

    # --- league, optimum, folds' ablation ------------------------------------------------------------------------

    def league_runs(self) -> list[str]:
        """Return the files of the league's runs; with ``partial``, of those that are there."""
        return [self.plan.league.file(run) for run in self.plan.league.collected]

    def optimum_enumerations(self) -> list[str]:
        """Return the enumerated problem of every model of the optimum."""
        name = self.plan.league.problem_name
        return [f"{self.results}/optimum/{model}/{name}.json" for model in self.plan.league.optimum.models]

    def optimum_runs(self) -> list[str]:
        """Return the runs of every allocator on every enumerated problem."""
        optimum, name = self.plan.league.optimum, self.plan.league.problem_name
        return [
            f"{self.results}/optimum/{model}/{name}/{each}.json" for model in optimum.models for each in optimum.methods
        ]

    def fold_runs(self) -> list[str]:
        """Return every row of the folds' ablation; with ``partial``, those that are there."""
        folder, plan = f"{self.results}/fold_ablation", self.plan.folds
        files = [f"{folder}/{run.model}/{run.file}/{run.method}-b{run.bits}.json" for run in plan.runs]
        return [file for file in files if not plan.partial or Path(file).is_file()]
