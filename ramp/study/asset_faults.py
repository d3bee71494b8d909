"""Faults between a configuration and the registry: texts and tasks by name, and roles that no text fills."""

from __future__ import annotations

from collections.abc import Iterator

from ramp.assets.disjoint_roles import ROLES, shares_of
from ramp.assets.options import OPTIONAL_TEXTS
from ramp.assets.registry import Registry
from ramp.core.errors import RampError
from ramp.core.nearest_name import near
from ramp.study.config import Study
from ramp.study.draws import base_model
from ramp.study.validation import named_models, path_meant


def trained_models(study: Study, registry: Registry) -> list[str]:
    """Return the models of a study and its sections that the workflow trains, on the role ``train``."""
    models = {base_model(name) for names in named_models(study).values() for name in names}
    return sorted(name for name in models & set(registry.assets) if registry.get(name).kind == "trained")


def asset_faults(study: Study, registry: Registry) -> Iterator[str]:
    """Yield texts and tasks that the registry does not have, and roles without a text."""
    texts = registry.of_type("text")
    for where, names in {
        "evaluation.texts": study.evaluation.texts,
        "evaluation.texts_if_local": [name for name in study.evaluation.texts_if_local if name not in OPTIONAL_TEXTS],
        **{f"texts.{role}": [name] for role, name in study.texts.items()},
    }.items():
        for name in names:
            if name != "heldout" or where.startswith("texts."):
                yield from _text_fault(where, name, registry)
    for name, own in study.assets.items():
        if own.type == "tasks":
            yield f"assets.{name}: tasks have their entry in the registry alone (config/assets.yaml): move it there"
    for name in sorted(set(study.assets) & set(ROLES)):
        yield f"assets: '{name}' has the name of a role: give it another"
    for name in study.tasks.names:
        tasks = {task for asset in registry.of_type("tasks").values() for task in asset.tasks}
        if name not in tasks:
            yield f"tasks.names: unknown task '{name}'{near(name, tasks)}; an empty list turns tasks off"
    if study.records is None and all(name in texts for name in study.texts.values()):
        yield from _role_faults(study, registry)


def _text_fault(where: str, name: str, registry: Registry) -> Iterator[str]:
    """Yield what is wrong with the name of a text: of a test text, unless ``where`` gives it a role."""
    texts = registry.of_type("text")
    if name not in texts:
        yield f"{where}: unknown text '{name}'{near(name, {*texts, 'heldout'})}{path_meant(name)}"
    elif where.startswith("evaluation.") and (text := texts[name].text) and text.roles:
        yield f"{where}: '{name}' has roles in the registry, rows are scored on texts without: name 'heldout'"


def _role_faults(study: Study, registry: Registry) -> Iterator[str]:
    """Yield roles that no text has; training text is needed by who trains alone."""
    try:
        filled = {
            role
            for shares in shares_of(registry, {str(role): name for role, name in study.texts.items()}).values()
            for role in shares
        }
    except RampError as error:
        yield str(error)
        return
    trained = trained_models(study, registry)
    reasons = {role: "every study reads it" for role in ROLES if role != "train"}
    if trained:
        reasons["train"] = f"{trained[0]} is trained on it"
    elif study.tuning.models:
        reasons["train"] = "tuning reads it (tuning: {models: []} turns that off)"
    elif study.gguf.models and study.gguf.tune_steps:
        reasons["train"] = "gguf.tune_steps reads it"
    for role, reason in reasons.items():
        if role not in filled:
            yield (
                f"texts: no text of the registry has the role '{role}', and {reason}: give one as `roles:` in the "
                f"registry, or a whole text with texts: {{{role}: NAME}}"
            )
