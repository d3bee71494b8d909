"""Rows of a study, and what each of them needs: the configuration turned into lists of names.

A row is one quantized model: ``{method}-b{bits}-s{seed}``, for instance ``gptq-b4-s0`` or ``ramp-b3.65-s0``. On the
source model there is a row for every method; static mixes of llama.cpp are ``q4_k_m-b4-s0-ggml``, and a row that is
stored once more in another track is ``ramp-b4-s0-fp16``. On the targets there are the float model, the uniform rows of
``transfer.uniform``, the rivals and the transferred policies (method ``ramp_transfer`` of ``ramp``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from ramp.core.errors import Faults, RampError
from ramp.core.nearest_name import nearest
from ramp.methods.kinds import Allocator, FoldRef, Method, Mix, Package, Quantizer, reason_not_to_run
from ramp.methods.names import FLOAT, UNQUANTIZED, transferred
from ramp.study.asset_plan import AssetPlan
from ramp.study.config import Fold
from ramp.study.draws import base_model
from ramp.study.fold_plan import FoldPlan
from ramp.study.gguf_plan import GgufPlan
from ramp.study.league_plan import LeaguePlan
from ramp.study.leakage_plan import LeakagePlan
from ramp.study.noise_plan import NoisePlan
from ramp.study.row_names import GGML, PlanError, Row, bits
from ramp.study.rows_over_banks import BankPlan
from ramp.study.tuning_plan import TuningPlan
from ramp.study.variants import variant_params

Kind = TypeVar("Kind", Quantizer, Allocator, Package, Mix)


@dataclass(frozen=True, kw_only=True)
class Plan(AssetPlan):
    """All names that the rules need."""

    methods: Mapping[str, Method]  # those of the study and of ``external``, loaded
    files: Mapping[str, Path] = field(default_factory=dict)  # method -> FILE or FILE:NAME, relative to the project
    broken: tuple[str, ...] = ()  # sentences on files in baselines/ that do not load and that this study does not name

    def faults(self) -> list[RampError]:
        """Return every fault that the plan's lists would show later."""
        faults = Faults()
        for part in ("task_rows", "target_rows", "track_rows", "environments"):
            faults.of(partial(getattr, self, part))
        for section in (self.league, self.folds, self.banks, self.tuning, self.leakage):
            faults.of(section.check)
        return faults.found

    @cached_property
    def league(self) -> LeaguePlan:
        """The league's runs, and the models and methods that only it has."""
        return LeaguePlan(self)

    @cached_property
    def folds(self) -> FoldPlan:
        """The rows of the folds' ablation."""
        return FoldPlan(self)

    @cached_property
    def banks(self) -> BankPlan:
        """The rows over banks."""
        return BankPlan(self)

    @cached_property
    def tuning(self) -> TuningPlan:
        """The rows whose scales are tuned."""
        return TuningPlan(self)

    @cached_property
    def leakage(self) -> LeakagePlan:
        """The rows that saw text nearer to the held-out text, and the text of every model."""
        return LeakagePlan(self)

    @cached_property
    def noise(self) -> NoisePlan:
        """The models that are evaluated against themselves."""
        return NoisePlan(self.study)

    @cached_property
    def gguf(self) -> GgufPlan:
        """The models whose GGUF files stand beside llama.cpp's mixes."""
        return GgufPlan(self.study)

    # --- models ------------------------------------------------------------------------------------

    @property
    def models(self) -> list[str]:
        """The source and the targets."""
        return [self.study.source, *self.study.targets]

    @property
    def base_models(self) -> list[str]:
        """The models of the study and of its sections: each has a checkpoint."""
        sections = (self.league, self.folds, self.banks, self.tuning, self.gguf, self.noise, self.leakage)
        named = [*self.models, *(model for section in sections for model in section.models)]
        return list(dict.fromkeys(map(base_model, named)))

    @property
    def all_models(self) -> list[str]:
        """These models, their draws and their leaks."""
        draws = [*self.league.models, *self.banks.draws, *self.tuning.draws]
        return list(dict.fromkeys([*self.base_models, *draws, *self.leakage.names]))

    # --- methods ---------------------------------------------------------------------------------------------

    @property
    def transferred(self) -> dict[str, str]:
        """Method name of a transferred policy's rows -> the method that left it on the source model."""
        return {transferred(name): name for name in self.study.transfer.methods} if self.study.targets else {}

    def base_of(self, method: str) -> str:
        """Return the registered method behind a transferred policy, a variant of the configuration, or itself."""
        return self.study.base_of(self.transferred.get(method, method))

    def method(self, name: str) -> Method:
        """Return the loaded method behind a name."""
        return self.methods[self.base_of(name)]

    def of_kind(self, kind: type[Kind]) -> dict[str, Kind]:
        """Return the loaded methods of one kind, by name."""
        return {name: method for name, method in self.methods.items() if isinstance(method, kind)}

    @cached_property
    def allocators(self) -> dict[str, Allocator]:
        """Loaded allocators by name, and their variants that have rows."""
        return self.of_kind(Allocator) | self.banks.variants

    @cached_property
    def allocating(self) -> frozenset[str]:
        """Methods of mixed rows: allocators and transferred policies."""
        return frozenset([*self.allocators, *self.transferred])

    @cached_property
    def mixed(self) -> frozenset[str]:
        """Those of them that can run on this machine, so that their rows have allocations."""
        return self.allocating - set(self.unable)

    @property
    def learned(self) -> list[str]:
        """Allocators that leave a policy."""
        return [name for name, method in self.allocators.items() if method.learned]

    @cached_property
    def unable(self) -> dict[str, str]:
        """Quantizers and allocators that cannot run on this machine, with reasons; others say so in their stage."""
        ours = self.of_kind(Quantizer) | self.of_kind(Allocator)
        found = {name: reason for name, method in ours.items() if (reason := reason_not_to_run(method))}
        return found | {moved: found[own] for moved, own in self.transferred.items() if own in found}

    def reference(self, name: str) -> Path:
        """Return what a command line calls a method, relative to the project: ``baselines/gptq.py:gptq_g64``."""
        base = self.base_of(name)
        return self.files.get(base, Path("baselines", f"{base}.py"))

    def fold_of(self, method: str, budget: str | None = None) -> FoldRef:
        """Return the fold of a method's rows: for a uniform row of ``budget`` bits, that of its own width, if any."""
        chosen = self.method(method)
        own = budget is not None and isinstance(chosen, Quantizer)
        return self.study.fold_ref(chosen.fold, int(budget)) if own and budget else FoldRef(chosen.fold)

    def fold_settings(self, file: str) -> Fold | None:
        """Return how the fold in a file is searched; None for ``none``."""
        fold = FoldRef.parse(file)
        found = self.study.folds.get(fold.name)
        return found if found is None or fold.width is None else found.at_width(fold.width)

    def allocator(self, method: str) -> Allocator:
        """Return the allocator behind a name; ``PlanError`` where there is none or no bank has its quantizer."""
        chosen = self.method(method)
        if not isinstance(chosen, Allocator):
            raise PlanError(f"'{method}' is no allocator: it gives every linear one width")
        if not isinstance(chosen.quantizer, str):
            raise PlanError(f"allocator '{method}' brings a quantizer of its own; the bank knows rtn and gptq")
        return chosen

    def bank_of(self, method: str) -> str:
        """Return the bank that an allocator searches on: ``{fold}-{quantizer}``."""
        chosen = self.allocator(method)
        return f"{chosen.fold}-{chosen.quantizer}"

    def sensitivities_of(self, method: str) -> str:
        """Return the name of the file of additive sensitivities that an allocator reads."""
        return self.allocator(method).sensitivities(self.bank_of(method))

    def params(self, name: str) -> dict[str, Any]:
        """Return the parameters of a method or variant that are not its file's defaults."""
        base = self.study.base_of(name)
        known = self.study.params.get(base, {})
        if name not in self.study.variants:
            return known
        return variant_params(name, self.methods[base], known, self.study.variants[name].params)

    def able(self, names: Iterable[str]) -> list[str]:
        """Return those among ``names`` that can run on this machine."""
        return [name for name in names if self.base_of(name) not in self.unable]

    def environment_of(self, method: str, budget: str) -> str | None:
        """Return the environment of a package's row; None where its reason not to run is known without one."""
        package = self.methods[method]
        assert isinstance(package, Package)  # asked of packages only
        return package.env_name if float(budget) in package.bits and not package.skip() else None

    @cached_property
    def environments(self) -> dict[str, tuple[str, ...]]:
        """Environments of the packages, by folder name, with their requirements."""
        found: dict[str, tuple[str, ...]] = {}
        for name, method in self.of_kind(Package).items():
            if found.setdefault(method.env_name, method.requirements) != method.requirements:
                raise PlanError(f"method '{name}' shares environment '{method.env_name}' and has other requirements")
        return found

    # --- rows ------------------------------------------------------------------------------------------------

    def seeds(self, method: str, seeds: Sequence[int] | None = None) -> list[int]:
        """Return those among ``seeds`` (the depth's) that a method runs with: one where nothing is drawn at random."""
        given, base = self.study.limits.seeds if seeds is None else seeds, self.base_of(method)
        drawn = isinstance(self.methods[base], Allocator) and base not in self.study.deterministic
        return list(given if drawn else given[:1])

    def budgets(self, method: str) -> list[float]:
        """Return the widths of a uniform method, or the budgets of an allocator, on the source model."""
        if isinstance(self.methods[method], Quantizer):
            return [float(width) for width in self.study.uniform_bits]
        limits = self.study.limits
        more = limits.control_budgets if method in self.study.deterministic else []
        return list(dict.fromkeys([*self.study.source_budgets, *more, *limits.more_budgets.get(method, [])]))

    def reference_rows(self, model: str) -> list[Row]:
        """Return the float model, and the released file where there is one."""
        names = [*UNQUANTIZED] if self.registry.get(model).kind == "wheel" else [FLOAT]
        return [Row(model, name, "16", self.study.limits.seeds[0]) for name in names]

    def package_rows(self, names: Iterable[str]) -> list[Row]:
        """Return uniform rows of packages on the source; one at a width that its package lacks will say so."""
        source, widths = self.study.source, self.study.uniform_bits
        return [Row(source, name, bits(width), self.seeds(name)[0]) for name in names for width in widths]

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

    @cached_property
    def target_rows(self) -> list[Row]:
        """All rows of the target models."""
        rows: list[Row] = []
        for model in self.study.targets:
            rows += self.reference_rows(model)
            rows += [Row.parse(row, model, self.study.limits.seeds[0]) for row in self.study.transfer.uniform]
            for method in [*self.study.transfer.rivals, *self.transferred]:
                budgets = self.study.target_budgets
                rows += [Row(model, method, bits(b), s) for b in budgets for s in self.seeds(method)]
        return rows

    @property
    def rows(self) -> list[Row]:
        """All rows on the affine grid."""
        return self.source_rows + self.target_rows

    @cached_property
    def mix_rows(self) -> list[Row]:
        """Rows of the static mixes, on the source model and the ggml grid."""
        found = [(name, self.methods[name]) for name in self.study.source_methods]
        seed = self.study.limits.seeds[0]
        return [Row(self.study.source, name, bits(mix.bits), seed, GGML) for name, mix in found if isinstance(mix, Mix)]

    @cached_property
    def track_rows(self) -> list[Row]:
        """Rows of the source model that are stored once more in another track, which they end in; the first seed."""
        return [
            Row(row.model, row.method, row.budget, row.seed, track)
            for track, names in self.study.limits.tracks.items()
            for row in self._named(names, f"tracks.{track}", without=UNQUANTIZED)
            if row.method not in self.unable
        ]

    @cached_property
    def task_rows(self) -> list[Row]:
        """Rows of the source model that the tasks score."""
        wanted = self.study.limits.task_rows
        if not self.study.tasks.names:
            return []
        named = self.source_rows if wanted is None else self._named(wanted, "task_rows")
        return [row for row in self.source_rows if row in named]

    def _named(self, names: Iterable[str], key: str, without: tuple[str, ...] = ()) -> list[Row]:
        """Return the first seed's rows that ``key`` of the depth names; ``PlanError`` for one that the study lacks."""
        seed = self.study.limits.seeds[0]
        known = {row.short: row for row in self.source_rows if row.seed == seed and row.method not in without}
        for name in names:
            if name not in known:
                raise PlanError(
                    f"depths.{self.study.depth}.{key}: the study has no row '{name}'{nearest(name, known)} "
                    f"(known: {', '.join(sorted(known))})"
                )
        return [known[name] for name in names]

    @cached_property
    def external_rows(self) -> list[Row]:
        """Rows of the packages in ``external``; of all that were loaded, where it names none."""
        others = [name for name in self.of_kind(Package) if name not in self.study.methods]
        return self.package_rows(self.study.external or others)

    @property
    def externally_recorded(self) -> list[Row]:
        """Rows of the packages' own records: theirs, and the source's reference rows."""
        return [*self.reference_rows(self.study.source), *self.external_rows]

    @property
    def halo_rows(self) -> list[Row]:
        """Rows of the source model that are exported to GGUF: first seed, every budget."""
        wanted, seed = set(self.study.halo.methods) - set(self.unable), self.study.limits.seeds[0]
        return [row for row in self.source_rows if row.method in wanted and row.seed == seed]

    @property
    def gguf_rows(self) -> list[Row]:
        """The exported rows and, where there are any, the float model that llama.cpp is compared on."""
        float_rows = self.reference_rows(self.study.source)[:1]
        return [*self.halo_rows, *float_rows] if self.halo_rows else []

    @property
    def recorded_rows(self) -> list[Row]:
        """Every row of the records: both grids, every track."""
        exported = [Row(row.model, row.method, row.budget, row.seed, GGML) for row in self.halo_rows]
        return [*self.rows, *exported, *self.mix_rows, *self.track_rows]

    def mixed_rows(self, *, searched: bool = False) -> list[Row]:
        """Return every row behind which an allocation stands; with ``searched``, without transferred policies."""
        left_out = self.transferred if searched else ()
        return [row for row in self.rows if row.method in self.mixed and row.method not in left_out]

    def has_weights(self, row: Row) -> bool:
        """Return whether a rule promises packed weights of a row in its own folder.

        The float model and the released file have none, a mix has llama.cpp's file, an exported row the GGUF file; a
        method that cannot run leaves none, and of a package no rule can promise them.
        """
        bare = row.method in {*UNQUANTIZED, *self.unable, *self.of_kind(Package), *self.of_kind(Mix)}
        return not bare and row.ending != GGML
