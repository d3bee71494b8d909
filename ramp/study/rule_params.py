"""Parameters that rules hand to their commands, by the wildcards of a rule; options are lists of words.

Arguments bear the names of wildcards, so that a rule binds them by name (``by`` in workflow/rules/common.smk).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from typing import Any

from ramp.study.config import Study
from ramp.study.config_sections import Places
from ramp.study.league_plan import LeagueRun, run_words
from ramp.study.plan import Plan
from ramp.study.row_names import FLOAT, Row, bits
from ramp.study.rule_inputs import RuleFiles


def options(prefix: str, places: Places) -> list[str]:
    """Return windows and length of a text as options: ``--heldout-windows 4 --heldout-length 128``."""
    return [f"--{prefix}windows", str(places.windows), f"--{prefix}length", str(places.length)]


@dataclass(frozen=True)
class RuleValues:
    """Parameters of the rules."""

    files: RuleFiles

    @property
    def plan(self) -> Plan:
        """The planned study."""
        return self.files.plan

    @property
    def study(self) -> Study:
        """The configuration."""
        return self.plan.study

    def of_model(self, model: str, source: Any, target: Any) -> Any:
        """Return ``source`` for the source model; for others ``target``, where it is set."""
        return source if model == self.study.source or target is None else target

    def entry(self, asset: str) -> str:
        """Return the registry's entry of an asset or model: a changed entry does not fetch the others again."""
        return self.plan.registry.get(asset).model_dump_json()

    def trained(self, model: str, key: str) -> Any:
        """Return what the registry says of a model that is trained: ``preset``, ``steps`` or ``seed``."""
        steps = self.study.train_steps if key == "steps" else None
        return steps or getattr(self.plan.registry.get(model).sources[0], key)

    def fold_options(self, fold: str) -> list[str]:
        """Return how a fold is searched, as arguments of ramp.calibration.fold_search."""
        settings = self.plan.fold_settings(fold)
        return ["--kind", "none"] if settings is None else settings.options()

    def reference(self, method: str) -> str:
        """Return what a command line calls a method: its file, for a variant with its name."""
        return self.files.local(self.plan.reference(method))

    def params(self, method: str) -> str:
        """Return the parameters of a method or variant, as JSON."""
        return json.dumps(self.plan.league.params(method), sort_keys=True)

    def title(self, method: str) -> str:
        """Return what tables call a variant of the configuration, quoted: Snakemake's ``:q`` drops an empty word."""
        return shlex.quote(self.plan.league.title(method))

    def widths(self, method: str, budget: str) -> list[str]:
        """Return width and parameters of a uniform row; a mixed row has its allocation instead."""
        return [] if method in self.plan.mixed else ["--bits", budget, "--params", self.params(method)]

    def reason(self, method: str) -> str:
        """Return why a method has no numbers on this machine."""
        return self.plan.unable[method]

    def fold_name(self, method: str, budget: str) -> str:
        """Return the fold of a row, as its file is called."""
        return str(self.plan.fold_of(method, budget))

    def group_size(self, method: str) -> int:
        """Return the group size of a uniform row: its method's own, where it has one."""
        return getattr(self.plan.method(method), "group_size", None) or self.study.group_size

    def kind(self, method: str) -> str:
        """Return the kind in the records of a row that cannot be made: a mixed one was never allocated."""
        return "not run" if method in self.plan.allocating else "uniform"

    def agreement(self, row: str) -> float:
        """Return how far perplexities of llama.cpp and transformers may differ: the float32 file has its own limit."""
        halo = self.study.halo
        return halo.float_limit if Row.parse(row).method == FLOAT else halo.limit

    def measured_on(self, model: str, row: str) -> list[str]:
        """Return the texts that a row is scored on, or the row whose scores it shares."""
        if shared := self.files.same_network(model, row):
            return ["--same-as", *shared]
        texts = zip(self.plan.texts(model), self.files.references(model), strict=True)
        return ["--reference", *(f"{text}={file}" for text, file in texts)]

    def activations(self) -> list[str]:
        """Return the source's statistics as they are, and after each of its folds."""
        source = self.study.source
        statistics = f"{self.study.results}/calibration/{source}.safetensors"
        return [statistics, *(f"{statistics}={fold}" for fold in self.files.folds(source))]

    def model_folders(self) -> list[str]:
        """Return the checkpoint folders of the source and the targets."""
        return [self.files.folder(f"models/{model}") for model in self.plan.models]

    def requirements(self, environment: str) -> tuple[str, ...]:
        """Return what an environment of a package is made of."""
        return self.plan.environments[environment]

    def constraints(self, environment: str) -> list[str]:
        """Return the committed versions of everything in an environment, as an option."""
        files = [self.files.local(file.relative_to(self.files.root)) for file in self.files.constraints(environment)]
        return ["--constraints", *files] if files else []

    def pinned(self, environment: str) -> str:
        """Return a digest of these versions: a venv that holds them is kept, whatever the file's date."""
        return "".join(hashlib.sha256(f.read_bytes()).hexdigest()[:12] for f in self.files.constraints(environment))

    def config_hash(self) -> str:
        """Return twelve digits that name the whole configuration, defaults included."""
        return hashlib.sha256(self.study.model_dump_json().encode()).hexdigest()[:12]

    def whole(self) -> str:
        """Return the configuration with all its defaults, as JSON."""
        return json.dumps(self.study.model_dump(mode="json"), indent=1, sort_keys=True)

    # --- league, optimum, folds' ablation ------------------------------------------------------------------------

    def league_search(self, model: str, allocator: str, budget: str, evals: str, seed: str) -> list[str]:
        """Return windows and length of the search text, and windows of the selection text."""
        text = self.plan.league.search_on(LeagueRun(model, allocator, budget, int(evals), int(seed)))
        places = Places(windows=text.windows, length=text.length)
        return [*options("search-", places), "--selection-windows", str(text.selection_windows or 0)]

    def league_reading(self, model: str, allocator: str, budget: str, evals: str, seed: str) -> list[str]:
        """Return where a run's incumbents are compared, and the points of its curve."""
        run, league = LeagueRun(model, allocator, budget, int(evals), int(seed)), self.plan.league
        return [*options("heldout-", league.heldout(run)), "--curve-points", str(league.curve_points(run))]

    def checkpoints(self, model: str, allocator: str, budget: str, evals: str, seed: str) -> list[int]:
        """Return the evaluations at which a run is read."""
        league = self.plan.league
        return list(league.grid_of(LeagueRun(model, allocator, budget, int(evals), int(seed))).checkpoints)

    def league_words(self) -> str:
        """Return the files of the league's runs in words that bash expands."""
        return run_words(f"{self.study.results}/league", self.plan.league.collected)

    def optimum(self, key: str) -> Any:
        """Return one key of the optimum's section."""
        return getattr(self.plan.league.optimum, key)

    def optimum_text(self) -> list[str]:
        """Return windows and length of the enumerated text."""
        return options("", self.plan.league.optimum.text)

    def optimum_budgets(self) -> list[str]:
        """Return the budgets on an enumerated problem, in bits."""
        return [bits(budget) for budget in self.plan.league.optimum.budgets]

    def fold_text(self) -> list[str]:
        """Return windows and length of the held-out text of the folds' ablation."""
        return options("", self.plan.folds.section.heldout)

    def optimum_seeds(self, allocator: str) -> list[int]:
        """Return the seeds of an allocator on an enumerated problem."""
        return self.plan.league.seeds(allocator, self.plan.league.optimum.seeds)

    def fold_run(self, method: str) -> str:
        """Return the method of a row of the folds' ablation, its name, title and parameters, as quoted options."""
        if method == FLOAT:
            return f"--method-file {FLOAT}"
        words = ["--method-file", self.reference(method), "--method-name", method]
        words += ["--title", self.plan.league.title(method), "--params", self.params(method)]
        return shlex.join(words)
