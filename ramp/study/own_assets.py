"""Models and texts that a configuration names by path: ``source: ./my-model``, ``texts: {heldout: ./my.txt}``.

A path becomes an entry of the configuration's ``assets``, and its place takes the entry's name; so the rest of the
suite knows names alone, and ``RESULTS/config.json`` says what each of them was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramp.assets.registry import ANY
from ramp.core.atomic_files import read_json
from ramp.core.errors import Faults, RampError
from ramp.core.fault_words import value_text
from ramp.core.safe_name import LONGEST_NAME
from ramp.models.architecture import known_family
from ramp.models.config_limits import check_limits
from ramp.study.validation import UNKNOWN, is_path

FORMATS = {".txt": "plain", ".md": "plain", ".jsonl": "jsonl", ".jsonl.gz": "jsonl"}
"""Format of a text by the ending of its file."""

MODEL = "give a checkpoint folder (config.json, tokenizer, *.safetensors) or a .gguf file"


def with_own_assets(values: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    """Return a configuration with the paths at ``source``, ``targets`` and ``texts`` as entries of ``assets``.

    Relative paths start from the working directory. Where nothing lies at a path, or neither a model nor a text that
    can be read, that goes to ``faults``, and the configuration is returned without the path.
    """
    made = dict(values)
    assets: dict[str, Any] = {}

    def named(value: Any, where: str, entry: Any) -> Any:
        return faults.of(lambda: name_of(value, where, entry)) if is_path(value) else value

    def name_of(value: str, where: str, entry: Any) -> str:
        if not value.isprintable():
            raise RampError(f"{where}: {value!r} holds a character that cannot be printed: rename it")
        try:
            path = Path(value).expanduser().absolute()
        except RuntimeError:  # of a user that is not there
            raise RampError(f"{where}: {value} names the home of a user that this machine does not have") from None
        if not os.path.exists(path):  # also of a name that is too long for one
            raise RampError(f"{where}: there is nothing at {path}")
        name = re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-._") or "unnamed"
        if len(name) > LONGEST_NAME:
            raise RampError(f"{where}: the last name of {path} has more than {LONGEST_NAME} characters: rename it")
        found = {"licence": "not stated", "sources": [{"kind": "path", "path": str(path), "sha256": ANY}]}
        if assets.get(name, found)["sources"] != found["sources"]:
            raise RampError(f"{where}: {path} has the same last name as another path: rename one of the two")
        assets[name] = {**entry(path, where), **found}
        return name

    if is_path(made.get("source")):
        made["source"] = named(made["source"], "source", _model) or UNKNOWN
    if isinstance(made.get("targets"), list):
        found = [(each, named(each, "targets", _model)) for each in made["targets"]]
        made["targets"] = [name for each, name in found if name is not None or not is_path(each)]
    if isinstance(made.get("texts"), dict):
        texts = {role: (each, named(each, f"texts.{role}", _text)) for role, each in made["texts"].items()}
        made["texts"] = {role: name for role, (each, name) in texts.items() if name is not None or not is_path(each)}
    known = made.get("assets", {})
    if not isinstance(known, dict):  # told here: with the paths' entries in it nobody would see
        faults.add([RampError(f"assets: {value_text(known)} should be entries by name: NAME: {{type: model, ...}}")])
        known = {}
    if assets or "assets" in made:
        made["assets"] = {**known, **assets}
    return made


def _model(path: Path, where: str) -> dict[str, Any]:
    """Return what an entry says of a model besides its source: of a folder, the sizes that plans are made of."""
    if path.suffix == ".gguf" and path.is_file():
        return {"type": "model"}
    file = path / "config.json"
    if not file.is_file():
        raise RampError(f"{where}: {path} holds no config.json: {MODEL}")
    config = check_limits(read_json(file, object, again="correct it, or fetch the model again"), file)
    known_family(config.get("model_type"), file)
    sizes = {key: value for key, value in config.items() if isinstance(value, int | str)}
    return {"type": "model", "sizes": sizes}


def _text(path: Path, where: str) -> dict[str, Any]:
    ending = next((each for each in sorted(FORMATS, key=len, reverse=True) if path.name.endswith(each)), None)
    if ending is None or not path.is_file():
        raise RampError(f"{where}: {path} is no text file: give one that ends in {', '.join(FORMATS)}")
    prefix = re.sub(r"[^a-z0-9]+", "-", path.name.removesuffix(ending).lower()).strip("-") or "text"
    return {"type": "text", "text": {"format": FORMATS[ending], "prefix": prefix}}
