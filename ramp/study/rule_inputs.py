"""Files that rules take as inputs, by the wildcards of a rule: each method returns the file or files of one kind.

Arguments bear the names of wildcards, so that a rule binds them by name (``by`` in workflow/rules/common.smk). A
list is empty where a row has no such file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ramp.assets.registry import PathSource
from ramp.core.atomic_files import read_json
from ramp.core.source_closure import Modules, closure, modules_of
from ramp.methods.kinds import Mix, Package
from ramp.methods.loader import discover, split_reference
from ramp.methods.names import FLOAT, RELEASED, UNQUANTIZED
from ramp.models.asset_file import text_files
from ramp.sensitivity.kinds import DEFAULT, SENSITIVITIES
from ramp.study.config import Study
from ramp.study.draws import base_model
from ramp.study.fold_sharing import folds_of_rows, searched_with
from ramp.study.leaked_models import calibrated_as
from ramp.study.planned_rows import Plan
from ramp.study.record_files import Taken
from ramp.study.row_names import GGML, SHARED, TUNED, Row


@dataclass(frozen=True)
class RuleFiles:
    """Input files of the rules."""

    plan: Plan
    root: Path  # the project
    environments: str  # folder of the packages' environments
    local: Callable[[str | Path], str]  # a path of the project as seen from the working directory
    modules: Modules = modules_of  # what a source file imports

    @property
    def study(self) -> Study:
        """The configuration."""
        return self.plan.study

    @property
    def results(self) -> str:
        """Folder of all outputs."""
        return self.study.results

    # --- sources -----------------------------------------------------------------------------------------------

    def sources(self, *files: str) -> list[str]:
        """Return ``files`` and all project modules that they import, for a rule's ``code`` input."""
        return [self.local(file) for file in closure(self.root, *files, modules=self.modules)]

    def stage(self, stage: str | tuple[str, ...], method: str) -> list[str]:
        """Return the sources of a stage (or of several that one rule runs) and of the method that it runs."""
        own = [] if method in UNQUANTIZED else [str(split_reference(self.plan.reference(method))[0])]
        return self.sources(*((stage,) if isinstance(stage, str) else stage), *own)

    def gguf_stage(self) -> list[str]:
        """Return the sources of the stage that puts files beside mixes, and of the methods that choose their types."""
        stage = "ramp/sized_gguf/against_mixes.py"
        found = [file for method in self.plan.study.gguf.methods for file in self.stage(stage, method)]
        return list(dict.fromkeys([*self.sources(stage), *found]))

    def text(self, model: str, role: str) -> str:
        """Return a model's text of a role: the study's own, unless it is a leak (``ramp.study.leaked_models``)."""
        return self.plan.leakage.text(model, role)

    def proxy_text(self, model: str, proxy: str = DEFAULT) -> str:
        """Return the text that sensitivities of a kind are measured on: search text for Fisher's."""
        return self.text(model, "search" if proxy == DEFAULT else "calibration")

    def proxy_stage(self, proxy: str = DEFAULT) -> list[str]:
        """Return the sources of the stage that makes sensitivities of a kind."""
        return self.sources("ramp/sensitivity/__main__.py", f"{SENSITIVITIES[proxy].replace('.', '/')}.py")

    def method(self, method: str) -> list[str]:
        """Return the file that registers a method; the float model and the released file have none."""
        return [] if method in UNQUANTIZED else [self.local(split_reference(self.plan.reference(method))[0])]

    def checked(self) -> list[str]:
        """Return the sources of the method file that ``baseline_check`` tests, or of all of them."""
        catalog = discover(self.root / "baselines")
        names = [self.study.baseline] if self.study.baseline else list(catalog)
        broken = [f"baselines/{name}.py" for name in names if name in catalog.broken]  # the tests say what is wrong
        files = {str(catalog.files[name].relative_to(self.root)) for name in names if name not in catalog.broken}
        return [*self.sources(*sorted(files)), *map(self.local, broken)]

    def checked_environments(self) -> list[Taken]:
        """Return the environments of the checked packages that are there, as they are; the check makes none."""
        names, methods = self.study.baseline, discover(self.root / "baselines").methods
        found = [each for name, each in methods.items() if isinstance(each, Package) and names in (None, name)]
        files = dict.fromkeys(f"{self.environments}/{package.env_name}/environment.json" for package in found)
        return [(file, True) for file in files if Path(file).is_file()]

    # --- calibration, banks, searches --------------------------------------------------------------------------

    def checkpoint(self, model: str) -> str:
        """Return the record of a model's checkpoint, which its draws share."""
        return f"{self.results}/models/{base_model(model)}/asset.json"

    def calibrated(self, model: str) -> str:
        """Return the model whose statistics, folds and banks a model has."""
        return calibrated_as(model)

    def folds(self, model: str) -> list[str]:
        """Return all folds of a model that the study's methods use."""
        names = sorted({fold.name for fold in folds_of_rows(self.plan, model)} - {"none"})
        return [f"{self.results}/folds/{model}/{name}.safetensors" for name in names]

    def shared_fold(self, model: str, fold: str) -> list[str]:
        """Return the shared fold whose search gives that of one width too; none for a fold that is searched alone."""
        shared = searched_with(self.plan, model, fold)
        return [f"{self.results}/folds/{model}/{shared.name}.safetensors"] if shared else []

    def accepted(self, model: str) -> list[str]:
        """Return the record that a model trained by the workflow is worth quantizing; others need none."""
        base = base_model(model)
        return [f"{self.results}/league/{base}/accepted.json"] if base in self.plan.trained else []

    def environment(self, method: str, budget: str) -> list[str]:
        """Return the record of a package's environment; none where the method cannot run or lacks the width."""
        environment = self.plan.environment_of(method, budget)
        return [f"{self.environments}/{environment}/environment.json"] if environment else []

    # --- rows ----------------------------------------------------------------------------------------------------

    def of_rows(self, pattern: str, rows: Iterable[Row]) -> list[str]:
        """Return one file of every row: ``pattern`` holds {model}, {row}, {method}, {budget} and {seed}."""
        return [f"{self.results}/{pattern}".format(row=row.name, **vars(row)) for row in rows]

    def allocation(self, model: str, method: str, budget: str, seed: str) -> list[str]:
        """Return the allocation of a mixed row; a uniform row has none."""
        mixed = method in self.plan.mixed
        return [f"{self.results}/allocations/{model}/{method}/{budget}/{seed}.json"] if mixed else []

    def row_allocation(self, model: str, row: str) -> list[str]:
        """Return the allocation of a row by its name, which may end in its grid, its track or another draw."""
        parts = Row.parse(row)
        model = base_model(model) if parts.ending == SHARED else model
        return self.allocation(model, parts.method, parts.budget, str(parts.seed))

    def shared_allocation(self, model: str, method: str, budget: str, seed: str) -> list[str]:
        """Return the allocation of draw 0 for a row of another draw."""
        return self.allocation(base_model(model), method, budget, seed)

    def weights(self, model: str, row: str) -> list[str]:
        """Return a row's packed weights, where a rule promises some; of an exported row, the GGUF file.

        Those of packages and mixes are promised where they pass: a study that keeps all needs no rule to delete them,
        and a row that failed has none there."""
        parts = Row.parse(row, model)
        if self.study.keep != "all" and isinstance(own := self.plan.methods.get(parts.method), Package | Mix):
            return [f"{self.results}/quantized/{model}/{row}/model.{'gguf' if isinstance(own, Mix) else 'safetensors'}"]
        if parts.ending == GGML and parts.method in self.plan.mixed:
            return [f"{self.results}/halo/{model}/{row.removesuffix('-' + GGML)}.gguf"]
        return [f"{self.results}/quantized/{model}/{row}/model.safetensors"] if self.plan.has_weights(parts) else []

    def coded(self, name: str) -> list[str]:
        """Return one file, ``meta.json`` or the packed weights, of every row with codes of ours."""
        rows = [row for row in self.plan.rows if self.plan.has_weights(row)]
        return self.of_rows(f"quantized/{{model}}/{{row}}/{name}", rows)

    def references(self, model: str) -> list[str]:
        """Return the float references on all texts that a model is scored on; draws share those of their model."""
        return [f"{self.results}/reference/{base_model(model)}/{text}.safetensors" for text in self.plan.texts(model)]

    def same_network(self, model: str, row: str) -> list[str]:
        """Return the metrics that a row shares: the released file is the float model's network, with another size."""
        parts = Row.parse(row)
        name = f"{FLOAT}-b{parts.budget}-s{parts.seed}"
        return [f"{self.results}/metrics/{model}/{name}.json"] if parts.method == RELEASED else []

    def twin(self, model: str, row: str) -> list[str]:
        """Return weights and metrics of the row on a draw whose weights this one may share."""
        found = self.plan.banks.twin(Row.parse(row, model))
        if found is None:
            return []
        return self.of_rows("quantized/{model}/{row}/model.safetensors", [found]) + self.of_rows(
            "metrics/{model}/{row}.json", [found]
        )

    def mix_calibration(self, model: str, method: str) -> list[str]:
        """Return the statistics behind a mix's importance matrix, where it has one."""
        mix = self.plan.method(method)
        has_one = isinstance(mix, Mix) and mix.importance
        return [f"{self.results}/calibration/{model}.safetensors"] if has_one else []

    def products(self) -> list[str]:
        """Return what a user keeps of a study besides its records and paper: packed rows and GGUF files.

        A study that keeps its results alone has the exported GGUF files, with their cards."""
        if self.study.records is not None:
            return []
        exported = self.plan.gguf_rows if self.study.keep == "all" else self.plan.halo_rows
        gguf = [
            path for end in ("gguf", "plan.json") for path in self.of_rows(f"halo/{{model}}/{{row}}.{end}", exported)
        ]
        gguf += self.of_rows("halo/{model}/{row}.types.txt", self.plan.halo_rows)
        gguf += self.of_rows("halo/{model}/{row}.card.md", self.plan.halo_rows)
        if self.study.keep != "all":
            return gguf
        gguf += self.of_rows("halo/{model}/{row}.check.json", exported)
        rows = [*self.plan.rows, *self.plan.track_rows]
        if not self.plan.banks.section.partial:
            rows += [each.row for each in self.plan.banks.rows]
        if not (self.plan.tuning.section.on_request or self.plan.tuning.section.partial):
            rows += [part for row in self.plan.tuning.rows for part in (row, replace(row, ending=TUNED))]
        packed = list(dict.fromkeys(row for row in rows if self.plan.has_weights(row)))
        files = [f"quantized/{{model}}/{{row}}/{name}" for name in ("meta.json", "model.safetensors")]
        return [*(path for file in files for path in self.of_rows(file, packed)), *gguf]

    def lost_tables(self) -> list[str]:
        """Return files of tables that the last index names and somebody deleted: the rule promises them again."""
        index = Path(self.results, "paper", "tables", "index.json")
        names = read_json(index, dict[str, Any]) if index.is_file() else {}
        files = [index.with_name(f"{name}.{ending}") for name in names for ending in ("tex", "typ", "md")]
        return [str(file) for file in files if not file.is_file()]

    def own_file(self, asset: str) -> list[str]:
        """Return the files of an asset of the study's own: an edit of one fetches it again, a model's folder too."""
        own = self.plan.study.assets.get(asset)
        paths = [Path(source.path) for source in own.sources if isinstance(source, PathSource)] if own else []
        folders = [path for path in paths if path.is_dir()]
        parts = [file for path in folders for file in [*text_files(path), *sorted(path.glob("*.safetensors"))]]
        return [str(path) for path in [*paths, *parts] if path.is_file()]

    def project(self, *patterns: str) -> list[str]:
        """Return the project's files that match one of the patterns."""
        found = sorted(file for pattern in patterns for file in self.root.glob(pattern))
        return [self.local(file.relative_to(self.root)) for file in found]

    def enumerated(self, ending: str = "") -> list[str]:
        """Return the enumerated problem of every model of the optimum, or what lies below its name."""
        league = self.plan.league
        return [f"{self.results}/optimum/{model}/{league.problem_name}{ending}.json" for model in league.optimum.models]

    def optimum_runs(self) -> list[str]:
        """Return the runs of every allocator on every enumerated problem."""
        return [file for method in self.plan.league.optimum.methods for file in self.enumerated(f"/{method}")]
