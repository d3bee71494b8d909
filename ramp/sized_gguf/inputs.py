"""The model of a run: a local folder, a repository of the hub, or a name of the registry; and what stops it early."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramp.assets.asset import fetch_asset
from ramp.assets.checkpoint import make_model
from ramp.assets.registry import Registry
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.gguf_format.names import check_exportable, gguf_tensors
from ramp.models.folder import ModelFolder, checkpoint_files
from ramp.sized_gguf.hub_model import DESCRIPTION, REPOSITORY, hub_model

LARGEST = 65504
"""Of a float16."""


def find_model(name: str, registry: Registry, models: Path) -> Path:
    """Return the checkpoint folder of MODEL: a folder, ``owner/name[@commit]`` of the hub, or a name in the registry.

    A registry model is made below ``models``. Raises ``RampError`` and ``FetchError``.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        raise RampError(f"{name} is a file: give the folder of a Hugging Face checkpoint with float weights")
    if name in registry.assets and registry.get(name).type == "model" and registry.get(name).kind != "trained":
        folder = models / name
        if not (folder / "asset.json").is_file():
            log.info("fetching %s", name)
            fetch_asset(registry, name, models / "assets" / name)
            make_model(registry, name, models / "assets", folder)
        return folder
    repo, _, revision = name.partition("@")
    if not re.fullmatch(REPOSITORY, repo) or ".." in name:
        known = registry.of_type("model")
        if name in known:
            raise RampError(f"{name} is trained by the workflow: give the folder of a run, RESULTS/models/{name}")
        raise RampError(
            f"there is no folder {name}{nearest(name, known)}: give a checkpoint folder, a repository of the Hugging "
            "Face hub (owner/name), or the name of a model in config/assets.yaml"
        )
    return hub_model(repo, revision)


def check_model(model: ModelFolder) -> None:
    """Raise for a model that cannot become a GGUF file: before any work.

    A checkpoint that disagrees with its configuration, numbers that no ggml type holds, another activation or rotary
    embedding than llama.cpp computes. Reads every weight once.
    """
    config = model.config
    check_exportable(config)
    if not model.linears:
        raise RampError(f"{model.path} has no decoder block: there is nothing to quantize")
    model.check()
    for tensor in gguf_tensors(config):
        if tensor.kind != "rope":
            _check_numbers(model, tensor.source)
    model.tokenizer()


def _check_numbers(model: ModelFolder, name: str) -> None:
    low, high = (float(edge) for edge in model.reader.get(name).aminmax())
    if not math.isfinite(low) or not math.isfinite(high):
        raise RampError(f"{model.path}: {name} has weights that are NaN or infinite: the checkpoint is damaged")
    if max(-low, high) > LARGEST:
        raise RampError(
            f"{model.path}: {name} has a weight of {max(-low, high):g}: ggml's types have float16 scales, and hold "
            f"none beyond {LARGEST}"
        )


def fingerprint(model: ModelFolder, settings: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits that change with the checkpoint's files (name, size, time) or the ``settings``.

    Other files of the folder, such as those that lie beside an output, do not count.
    """
    described = (path for pattern in DESCRIPTION for path in model.path.glob(pattern) if path.is_file())
    files = []
    for path in sorted({*checkpoint_files(model.path), *described}):
        found = path.stat()
        files.append((path.name, found.st_size, found.st_mtime_ns))
    return hashlib.sha256(json.dumps([files, settings], sort_keys=True, default=str).encode()).hexdigest()[:12]
