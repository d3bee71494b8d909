"""Parameters that rules hand to their commands, by the wildcards of a rule; options are lists of words.

Arguments bear the names of wildcards, so that a rule binds them by name (``by`` in workflow/rules/common.smk).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.assets.leakage_texts import NO_LEAK
from ramp.methods.kinds import FoldRef
from ramp.methods.names import FLOAT
from ramp.study.config import Study
from ramp.study.config_sections import Places
from ramp.study.draws import base_model, split_draw
from ramp.study.fold_sharing import searched_with
from ramp.study.league_plan import LeagueRun, run_words
from ramp.study.leaked_models import split_leak
from ramp.study.planned_rows import Plan
from ramp.study.row_names import Row, bits
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
        """Return ``source`` for the source model and its draws; for others ``target``, where it is set."""
        return source if base_model(model) == self.study.source or target is None else target

    def entry(self, asset: str) -> str:
        """Return the registry's entry of an asset or model: a changed entry does not fetch the others again.

        Sizes of models and of a hub's files are for plans: they change nothing of what is fetched."""
        return self.plan.registry.get(asset).model_dump_json(exclude={"sizes": True, "sources": {"__all__": {"bytes"}}})

    def own_entries(self, assets: Iterable[str]) -> list[str]:
        """Return those of some assets that are the study's own, as ``--entry`` takes them."""
        return [f"{name}={self.entry(name)}" for name in assets if name in self.study.assets]

    def own_entry(self, asset: str) -> list[str]:
        """Return the same of one asset."""
        return self.own_entries([asset])

    def trained(self, model: str, key: str) -> Any:
        """Return what the registry says of a model that is trained: ``preset``, ``steps`` or ``seed``."""
        steps = self.study.train_steps if key == "steps" else None
        return steps or getattr(self.plan.registry.get(model).sources[0], key)

    def fold_options(self, fold: str) -> list[str]:
        """Return how a fold is searched, as arguments of ramp.calibration.fold_search."""
        settings = self.plan.fold_settings(fold)
        return ["--kind", "none"] if settings is None else settings.options()

    def folds_together(self, model: str, fold: str) -> list[str]:
        """Return which folds of single widths a search writes too, or where the search of the shared one wrote this."""
        asked, state = FoldRef.parse(fold), f"{self.files.results}/.state/folds/{model}"
        if searched_with(self.plan, model, fold):
            return ["--made", f"{state}/{fold}.safetensors"]
        settings = self.plan.study.folds.get(asked.name)
        if asked.width is not None or settings is None or settings.kind != "awq":
            return []
        # all of its widths, whether a row wants them or not: else a new uniform row would make this fold anew
        own = [FoldRef(asked.name, bits) for bits in settings.bits]
        return ["--also", *(f"{each.width}={state}/{each}.safetensors" for each in own)]

    def calibration(self, model: str) -> list[str]:
        """Return how much text calibrates a model, and of another draw its seed, as options."""
        section = self.study.calibration
        tokens = self.of_model(model, section.tokens, section.target_tokens)
        return ["--tokens", str(tokens), "--length", str(section.length), *self.draw(model)]

    def draw(self, model: str) -> list[str]:
        """Return the seed of a draw, as an option; the model itself has none."""
        _, seed = split_draw(model)
        return ["--draw", str(seed)] if seed else []

    def leak(self, model: str) -> list[str]:
        """Return the leak of a model, as an option: its rows say so."""
        _, leak = split_leak(model)
        return [] if leak == NO_LEAK else ["--leak", str(leak)]

    def reference(self, method: str) -> str:
        """Return what a command line calls a method: its file, for a variant with its name."""
        return self.files.local(self.plan.reference(method))

    def params(self, method: str) -> str:
        """Return the parameters of a method or variant, as JSON."""
        return json.dumps(self.plan.params(method), sort_keys=True)

    def method(self, method: str) -> list[str]:
        """Return a method and its parameters, as options."""
        return ["--method-file", self.reference(method), "--params", self.params(method)]

    def title(self, method: str) -> list[str]:
        """Return what tables call a variant, as an option; of a plain method the paper knows the title."""
        variant = self.study.variants.get(method)
        return ["--title", variant.title or method] if variant else []

    def widths(self, method: str, budget: str) -> list[str]:
        """Return width and parameters of a uniform row; a mixed row has its allocation instead."""
        return [] if method in self.plan.mixed else ["--bits", budget, "--params", self.params(method)]

    def skipped(self, method: str, budget: str) -> list[str]:
        """Return what the records say of a row that cannot be made, as options: a mixed one was never allocated."""
        group_size = getattr(self.plan.method(method), "group_size", None) or self.study.group_size
        kind = "not run" if method in self.plan.allocating else "uniform"
        words = ["--fold", str(self.plan.fold_of(method, budget)), "--group-size", str(group_size)]
        return [*words, "--track", self.study.track, "--kind", kind, "--reason", self.plan.unable[method]]

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

    def _frozen(self, environment: str) -> Path | None:
        """Return the committed versions of everything in a package's environment; None before they are frozen."""
        file = self.files.root / "workflow" / "envs" / f"{environment}.constraints.txt"
        return file if file.is_file() else None

    def constraints(self, environment: str) -> list[str]:
        """Return the committed versions of an environment, and the file with their hashes, as options."""
        file = self._frozen(environment)
        if file is None:
            return []
        lock = self.files.local("workflow/envs/packages.lock")
        return ["--constraints", self.files.local(file.relative_to(self.files.root)), "--lock", lock]

    def pinned(self, environment: str) -> str:
        """Return a digest of these versions: a venv that holds them is kept, whatever the file's date."""
        file = self._frozen(environment)
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file else ""

    def config_hash(self) -> str:
        """Return twelve digits that name the whole configuration, defaults included."""
        return hashlib.sha256(self.study.model_dump_json().encode()).hexdigest()[:12]

    def whole(self) -> str:
        """Return the configuration with all its defaults, as JSON."""
        return json.dumps(self.study.model_dump(mode="json"), indent=1, sort_keys=True)

    # --- league, optimum, folds' ablation, banks -----------------------------------------------------------------

    def league_run(self, model: str, method: str, budget: str, evals: str, seed: str) -> list[str]:
        """Return where a run of the league is scored and read, as options."""
        league = self.plan.league
        grid = league.section.grids[league.named[LeagueRun(model, method, budget, int(evals), int(seed))]]
        text = league.search(grid)
        words = options("search-", Places(windows=text.windows, length=text.length))
        words += ["--selection-windows", str(text.selection_windows or 0)]
        words += ["--checkpoints", *map(str, grid.checkpoints), *options("heldout-", league.heldout(grid))]
        return [*words, "--curve-points", str(grid.curve_points or league.section.curve_points)]

    def league_words(self) -> list[str]:
        """Return the files of the league's runs in words that ``ramp.records.collect_league`` expands."""
        return run_words(f"{self.study.results}/league", self.plan.league.collected)

    def enumeration(self) -> list[str]:
        """Return text and widths of the enumerated problems, as options."""
        optimum = self.plan.league.optimum
        return [*options("", optimum.text), "--widths", *map(str, optimum.widths)]

    def optimum_run(self, method: str) -> list[str]:
        """Return budgets, checkpoints and seeds of an allocator on the enumerated problems, as options."""
        optimum = self.plan.league.optimum
        words = ["--budgets", *map(bits, optimum.budgets), "--checkpoints", *map(str, optimum.checkpoints)]
        return [*words, "--seeds", *map(str, self.plan.seeds(method, optimum.seeds))]

    def bank_rows(self) -> list[str]:
        """Return the collected rows over banks as ``METHOD,BANK,ALLOCATION_BANK=FILE``."""
        banks = self.plan.banks
        return [f"{r.row.method},{r.bank},{r.allocation_bank}={banks.file(r)}" for r in banks.collected]

    def bank_titles(self) -> list[str]:
        """Return what tables call the variants among the rows over banks, as ``METHOD=TITLE``."""
        return [f"{name}={self.study.variants[name].title or name}" for name in self.plan.banks.variants]

    def fold_text(self, key: str) -> int:
        """Return ``windows`` or ``length`` of the held-out text of the folds' ablation."""
        return int(getattr(self.plan.folds.section.heldout, key))

    def fold_run(self, method: str) -> list[str]:
        """Return the method of a row of the folds' ablation, its name, title and parameters, as options."""
        if method == FLOAT:
            return ["--method-file", FLOAT]
        return [*self.method(method), "--method-name", method, *self.title(method)]
