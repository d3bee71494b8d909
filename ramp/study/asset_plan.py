"""Assets that a study needs: trained models, texts and task rows, by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ramp.assets.disjoint_roles import shares_of
from ramp.assets.registry import Registry
from ramp.study.asset_faults import trained_models
from ramp.study.config import Study
from ramp.study.draws import base_model


@dataclass(frozen=True, kw_only=True)
class AssetPlan:
    """The assets of a study among those that the registry names."""

    study: Study
    registry: Registry

    @property
    def trained(self) -> list[str]:
        """Models that the workflow trains itself."""
        return [name for name, asset in self.registry.of_type("model").items() if asset.kind == "trained"]

    def texts(self, model: str) -> list[str]:
        """Return the texts that a model's rows are scored on; those of its draws and leaks on ``heldout``."""
        if base_model(model) != model:
            return ["heldout"]
        if model != self.study.source:
            return list(self.study.evaluation.target_texts)
        return sorted({*self.study.evaluation.texts, *self.local_texts})

    @cached_property
    def local_texts(self) -> list[str]:
        """Optional texts that lie on this machine; no network is used."""
        named = (name for name in self.study.evaluation.texts_if_local if name in self.registry.assets)
        return [name for name in named if self.registry.is_local(name)]

    @property
    def extra_texts(self) -> list[str]:
        """Text assets besides the study's own held-out text."""
        return [name for name in self.texts(self.study.source) if name != "heldout"]

    @property
    def unread_roles(self) -> list[str]:
        """Roles of texts that no stage of the study reads: ``train``, where it trains and tunes nothing."""
        study = self.study
        reads = trained_models(study, self.registry) or study.tuning.models or study.gguf.models or study.leakage.models
        return [] if reads else ["train"]

    def sources(self, role: str) -> set[str]:
        """Return the text assets that a role's documents come from."""
        named = {str(role): name for role, name in self.study.texts.items()}
        if role in named:
            return {named[role]}
        shares = shares_of(self.registry, named, self.unread_roles)
        return {asset for asset, roles in shares.items() if role in roles}

    @property
    def text_assets(self) -> list[str]:
        """Assets that the texts are made of: those with a role, and the extra ones."""
        named = {str(role): name for role, name in self.study.texts.items()}
        return sorted({*shares_of(self.registry, named, self.unread_roles), *self.extra_texts})

    @property
    def task_assets(self) -> list[str]:
        """Assets that hold the study's tasks."""
        wanted = set(self.study.tasks.names)
        return [name for name, asset in self.registry.of_type("tasks").items() if wanted & set(asset.tasks)]
