"""Which rows a study has, and where their files lie: the study's configuration turned into lists of names.

A row is one quantized model: ``{method}-b{bits}-s{seed}``, for instance ``gptq-b4-s0`` or ``ramp-b3.65-s0``. On the
source model there is a row for every method; static mixes of llama.cpp are ``q4_k_m-b4-s0-ggml``, and a row that is
stored once more in another track is ``ramp-b4-s0-fp16``. On the targets there are the float model, the uniform rows of
``transfer.uniform``, the rivals and the transferred policies (method ``ramp_transfer`` of ``ramp``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ramp.assets.registry import Registry
from ramp.core.hints import nearest
from ramp.methods.kinds import OWN_FOLD, Allocator, Method, Mix, Package, Quantizer, own_fold, reason_not_to_run
from ramp.study.config import Fold, Study
from workflow.scripts.plan_folds import FoldPlan, fold_methods
from workflow.scripts.plan_league import LeaguePlan, league_methods
from workflow.scripts.rows import FLOAT, RELEASED, ROW, Row, bits


class PlanError(ValueError):
    """The study asks for something that its methods or models cannot give."""


@dataclass(frozen=True)
class Plan:
    """All names that the rules need."""

    study: Study
    methods: Mapping[str, Method]  # those of the study and of ``external``, loaded
    registry: Registry

    def __post_init__(self) -> None:
        for name in self.study.external:
            if not isinstance(self.methods[name], Package):
                raise PlanError(f"external: '{name}' goes through no package: name it in methods")
        for name in self.transferred.values():
            if name in self.methods and not self.methods[name].learned:
                raise PlanError(
                    f"transfer.methods: '{name}' leaves no policy to transfer: name one whose file says learned=True"
                )
        known = {"none", *self.study.folds}
        for name, method in self.methods.items():  # an unknown fold must not become no fold under its name
            if isinstance(method, (Quantizer, Allocator)) and method.fold not in known:
                raise PlanError(
                    f"method '{name}' quantizes weights of fold '{method.fold}'{nearest(method.fold, known)}, and "
                    f"folds of the configuration has {', '.join(sorted(known))}: describe '{method.fold}' there"
                )

    @property
    def models(self) -> list[str]:
        """The source and the targets."""
        return [self.study.source, *self.study.targets]

    @cached_property
    def unable(self) -> dict[str, str]:
        """Quantizers and allocators that cannot run here, each with its reason; other kinds tell in their own stage."""
        ours = {name: each for name, each in self.methods.items() if isinstance(each, Quantizer | Allocator)}
        found = {name: reason for name, method in ours.items() if (reason := reason_not_to_run(method))}
        return found | {moved: found[own] for moved, own in self.transferred.items() if own in found}

    def is_unable(self, row: str) -> bool:
        """Whether the row of this name has a reason instead of numbers."""
        return self._method_in(row) in self.unable

    @cached_property
    def league(self) -> LeaguePlan:
        """The league's runs, and the models and methods that only it has."""
        return LeaguePlan(self.study, self.methods, self.registry, frozenset(self.unable))

    @cached_property
    def folds(self) -> FoldPlan:
        """The rows of the folds' ablation."""
        return FoldPlan(self.study, self.methods, frozenset(self.unable))

    @property
    def all_models(self) -> list[str]:
        """The models of the study, of its league and of its fold ablation."""
        return list(dict.fromkeys([*self.models, *self.league.models, *self.folds.models]))

    @property
    def trained(self) -> list[str]:
        """Models that the workflow trains itself."""
        return [name for name, asset in self.registry.of_type("model").items() if asset.kind == "trained"]

    @property
    def transferred(self) -> dict[str, str]:
        """Method name of a transferred policy's rows -> the method that left it on the source model."""
        return {f"{name}_transfer": name for name in self.study.transfer.methods} if self.study.targets else {}

    def is_released(self, model: str) -> bool:
        """Whether the model came as a quantized file, which then has a row of its own."""
        return self.registry.get(model).kind == "wheel"

    def seeds(self, method: str) -> list[int]:
        """Seeds of a method: one where nothing is drawn at random."""
        seeds = self.study.limits.seeds
        learned_or_random = isinstance(self.methods.get(method), Allocator) and method not in self.study.deterministic
        return list(seeds) if learned_or_random else list(seeds[:1])

    def reference_rows(self, model: str) -> list[Row]:
        """The float model, and the released file where there is one."""
        names = [FLOAT, RELEASED] if self.is_released(model) else [FLOAT]
        return [Row(model, name, "16", self.study.limits.seeds[0]) for name in names]

    @cached_property
    def source_rows(self) -> list[Row]:
        """All rows of the source model on the affine grid."""
        rows = self.reference_rows(self.study.source)
        for name in self.study.source_methods:
            method = self.methods[name]
            if isinstance(method, Package):
                rows += self.package_rows([name])
            elif not isinstance(method, Mix):
                rows += [Row(self.study.source, name, bits(b), s) for b in self.budgets(name) for s in self.seeds(name)]
        return rows + (self.package_rows(self.study.external) if self.study.runs_packages else [])

    def package_rows(self, names: Iterable[str]) -> list[Row]:
        """Uniform rows of packages on the source model: a row at a width that its package has not will say so."""
        source, widths = self.study.source, self.study.uniform_bits
        return [Row(source, name, bits(width), self.seeds(name)[0]) for name in names for width in widths]

    def budgets(self, method: str) -> list[float]:
        """Widths of a uniform method, budgets of an allocator, on the source model."""
        if isinstance(self.methods[method], Quantizer):
            return [float(width) for width in self.study.uniform_bits]
        limits = self.study.limits
        more = limits.control_budgets if method in self.study.deterministic else []
        return list(dict.fromkeys([*self.study.source_budgets, *more, *limits.more_budgets.get(method, [])]))

    @property
    def mixes(self) -> list[str]:
        """Static mixes of llama.cpp."""
        return [name for name, method in self.methods.items() if isinstance(method, Mix)]

    def is_mix(self, row: str) -> bool:
        """Whether the row of this name is a static mix."""
        return self._method_in(row) in self.mixes

    @cached_property
    def mix_rows(self) -> list[Row]:
        """Rows of the static mixes, on the source model and the ggml grid."""
        source, seed = self.study.source, self.study.limits.seeds[0]
        found = {name: self.methods[name] for name in self.study.source_methods}
        return [Row(source, name, bits(mix.bits), seed) for name, mix in found.items() if isinstance(mix, Mix)]

    @cached_property
    def track_rows(self) -> list[tuple[Row, str]]:
        """Rows of the source model that are stored in another track too, each with that track; the first seed."""
        known = {row.short: row for row in self.source_rows if row.seed == self.study.limits.seeds[0]}
        found = []
        for track, names in self.study.limits.tracks.items():
            for name in names:
                if name not in known or known[name].method in (FLOAT, RELEASED):
                    raise PlanError(
                        f"depths.{self.study.depth}.tracks.{track}: the study quantizes no row '{name}' "
                        f"(known: {', '.join(sorted(known))})"
                    )
                found.append((known[name], track))
        return [(row, track) for row, track in found if row.method not in self.unable]

    @cached_property
    def external_rows(self) -> list[Row]:
        """Rows of the packages in ``external``; of all that were loaded, where it names none."""
        return self.package_rows(self.study.external or [n for n in self.packages if n not in self.study.methods])

    @cached_property
    def target_rows(self) -> list[Row]:
        """All rows of the target models."""
        rows: list[Row] = []
        mixed = [*self.study.transfer.rivals, *self.transferred]
        for model in self.study.targets:
            rows += self.reference_rows(model)
            rows += [
                Row(model, *row.rsplit("-b", 1), self.study.limits.seeds[0]) for row in self.study.transfer.uniform
            ]
            for method in mixed:
                seeds = self.seeds(self._registered(method))
                rows += [Row(model, method, bits(b), s) for b in self.study.target_budgets for s in seeds]
        return rows

    @property
    def rows(self) -> list[Row]:
        """All rows on the affine grid."""
        return self.source_rows + self.target_rows

    @property
    def halo_rows(self) -> list[Row]:
        """Rows of the source model that are exported to GGUF: first seed, every budget."""
        wanted = set(self.study.halo.methods) - set(self.unable)
        return [row for row in self.source_rows if row.method in wanted and row.seed == self.study.limits.seeds[0]]

    @property
    def task_rows(self) -> list[Row]:
        """Rows of the source model that the tasks score."""
        if not self.study.tasks.names:
            return []
        wanted = self.study.limits.task_rows
        if wanted is None:
            return self.source_rows
        missing = sorted(set(wanted) - {row.short for row in self.source_rows})
        if missing:
            known = ", ".join(sorted({row.short for row in self.source_rows}))
            raise PlanError(
                f"depths.{self.study.depth}.task_rows: the study has no row '{missing[0]}' (known: {known})"
            )
        return [row for row in self.source_rows if row.short in set(wanted) and row.seed == self.study.limits.seeds[0]]

    def fold_of(self, method: str, budget: str | None = None) -> str:
        """The fold that a method's rows use: with ``budget``, that of a uniform row's very width, if it has one."""
        chosen = self.methods[self._registered(method)]
        fold = self.study.folds.get(chosen.fold)
        if fold is None or budget is None or not isinstance(chosen, Quantizer) or not fold.has_own(int(budget)):
            return chosen.fold
        return own_fold(chosen.fold, int(budget))

    def fold_settings(self, name: str) -> Fold | None:
        """How a fold file of this name is searched; None for ``none``."""
        match = OWN_FOLD.fullmatch(name)
        if name in self.study.folds or match is None:
            return self.study.folds.get(name)
        return self.study.folds[match["fold"]].at_width(int(match["bits"]))

    def bank_of(self, method: str) -> str:
        """The bank that an allocator searches on: ``{fold}-{quantizer}``."""
        chosen = self.methods[self._registered(method)]
        if isinstance(chosen, Package) or not isinstance(chosen.quantizer, str):
            raise PlanError(f"allocator '{method}' brings a quantizer of its own; the bank knows rtn and gptq")
        return f"{chosen.fold}-{chosen.quantizer}"

    def sensitivities_of(self, method: str) -> str:
        """Name of the file of additive sensitivities that an allocator reads."""
        chosen = self.methods[self._registered(method)]
        assert isinstance(chosen, Allocator)  # asked of allocators only
        return chosen.sensitivities(self.bank_of(method))

    def _registered(self, method: str) -> str:
        return self.transferred.get(method, method)

    @staticmethod
    def _method_in(row: str) -> str:
        match = ROW.fullmatch(row)
        return match["method"] if match else ""

    def method_file(self, method: str) -> str:
        """The file that registers a method, relative to the project."""
        return f"baselines/{self._registered(method)}.py"

    def is_package(self, row: str) -> bool:
        """Whether a row (``{method}-b{bits}-s{seed}``) comes from a package."""
        return self._method_in(row) in self.packages

    def allocation_files(self, results: str, model: str, row: str) -> list[str]:
        """The allocation behind a row (with or without the ggml ending): one file for mixed rows, none for others."""
        match = ROW.fullmatch(row)
        if match is None:
            raise PlanError(f"'{row}' is no row: use {{method}}-b{{bits}}-s{{seed}}")
        method, budget, seed = match.group("method", "budget", "seed")
        if method in self.unable or method not in {*self.allocators, *self.transferred}:
            return []
        return [f"{results}/allocations/{model}/{method}/{budget}/{seed}.json"]

    @property
    def packages(self) -> list[str]:
        """Uniform methods of other people's packages."""
        return [name for name, method in self.methods.items() if isinstance(method, Package)]

    def environment_of(self, method: str, budget: str) -> str | None:
        """The environment that a package's row needs; None where its reason not to run is known without one."""
        package = self.methods[method]
        assert isinstance(package, Package)  # asked of packages only
        return package.env_name if float(budget) in package.bits and not package.skip() else None

    @cached_property
    def environments(self) -> dict[str, tuple[str, ...]]:
        """Environments of the packages, by folder name, with their requirements."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.packages:
            method = self.methods[name]
            assert isinstance(method, Package)
            if found.setdefault(method.env_name, method.requirements) != method.requirements:
                raise PlanError(f"method '{name}' shares environment '{method.env_name}' and has other requirements")
        return found

    @property
    def allocators(self) -> list[str]:
        """Mixed methods."""
        return [name for name, method in self.methods.items() if isinstance(method, Allocator)]

    @property
    def learned(self) -> list[str]:
        """Mixed methods that leave a policy."""
        return [name for name in self.allocators if self.methods[name].learned]

    def texts(self, model: str) -> list[str]:
        """Texts that a model's rows are scored on."""
        if model != self.study.source:
            return list(self.study.evaluation.target_texts)
        return sorted({*self.study.evaluation.texts, *self.local_texts})

    @cached_property
    def local_texts(self) -> list[str]:
        """Optional texts that lie on this machine (asked without a network)."""
        from ramp.assets.install import is_local

        return [name for name in self.study.evaluation.texts_if_local if is_local(self.registry, name)]

    @property
    def asked_texts(self) -> list[str]:
        """Text assets beside the study's own held-out text."""
        return [name for name in self.texts(self.study.source) if name != "heldout"]

    def text_assets(self, extra: Iterable[str] = ()) -> list[str]:
        """Assets that the texts are made of: all with roles, and the extra ones."""
        shared = [name for name, asset in self.registry.of_type("text").items() if asset.text and asset.text.roles]
        return sorted({*shared, *extra})

    def task_assets(self) -> list[str]:
        """Assets that hold the study's tasks."""
        wanted = set(self.study.tasks.names)
        return [name for name, asset in self.registry.of_type("tasks").items() if wanted & set(asset.tasks)]


def used_methods(study: Study) -> list[str]:
    """Names of all method files that the study needs."""
    names = study.source_methods
    if study.targets:
        names += [*study.transfer.methods, *study.transfer.rivals]
        names += [row.rsplit("-b", 1)[0] for row in study.transfer.uniform]
    names += [*study.external, *league_methods(study), *fold_methods(study)]
    return [name for name in dict.fromkeys(names) if name not in (FLOAT, RELEASED)]


def package_files(files: Mapping[str, Path]) -> list[str]:
    """Names of the method files that register a package, by their text: others are not loaded for it."""
    return [name for name, path in files.items() if "METHOD = Package(" in path.read_text(encoding="utf-8")]
