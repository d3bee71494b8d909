"""Models and texts that lie on this machine, opened before the first job: what a stage would refuse much later."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from ramp.assets.asset import local_file
from ramp.assets.disjoint_roles import assign, parse, shares_of
from ramp.core.errors import Faults, RampError
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, TextError
from ramp.study.asset_plan import AssetPlan
from ramp.study.draws import base_model
from ramp.study.validation import named_models


def local_faults(plan: AssetPlan, done: Collection[str] = ()) -> list[RampError]:
    """Return what is wrong with files of this machine that a study reads; those in ``done`` are not opened.

    Of a model its headers are read and no weights: whether they are those of ``config.json``, and the tokenizer. A text
    is read whole.
    """
    registry, faults = plan.registry, Faults()
    if plan.study.records is not None:  # of published ones no model and no text is read
        return []
    models = {base_model(name) for names in named_models(plan.study).values() for name in names}
    texts: dict[str, list[Document]] = {}
    for name in sorted({*models, *plan.text_assets, *plan.task_assets} & set(registry.assets) - set(done)):
        path, text = faults.of(partial(local_file, registry, name)), registry.get(name).text
        if path is not None and name in models:
            faults.of(partial(_open_model, path))
        elif path is not None and text is not None:
            texts[name] = faults.of(partial(parse, path, text)) or []
    named = {str(role): name for role, name in plan.study.texts.items()}
    for name in sorted({*named.values()} & {name for name, documents in texts.items() if documents}):
        roles = shares_of(registry, named, plan.unread_roles)[name]
        faults.of(partial(_divide, name, texts[name], roles))
    return faults.found


def _open_model(path: Path) -> None:
    """Raise ``RampError`` where a checkpoint folder or GGUF file would be refused when a job opens it."""
    if path.is_dir():
        model = ModelFolder(path)
        model.check()
        model.tokenizer()
    else:
        from ramp.gguf_format.configuration import read_configuration  # the library is slow to import
        from ramp.gguf_format.reader import GgufFile

        read_configuration(GgufFile(path))


def _divide(name: str, documents: list[Document], shares: Mapping[str, float]) -> None:
    """Raise ``TextError`` where a text that is divided among roles leaves one of them without a document."""
    found = assign([(documents, shares)])
    if empty := [role for role in shares if not found[role]]:
        raise TextError(
            f"text '{name}' has {len(documents)} document{'s' * (len(documents) > 1)} and is divided among "
            f"{', '.join(shares)}: none is left for {empty[0]}, give it a text of its own, or a longer one with blank "
            "lines between documents"
        )
