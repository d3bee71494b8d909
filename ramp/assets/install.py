"""Install assets: fetched files, model folders and task rows of a study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.assets.fetch import FetchError, SourceAbsent, fetch, require_room
from ramp.assets.record import ABSENT, AssetError, asset_path, asset_record, tree_files
from ramp.assets.registry import PathSource, Registry
from ramp.core.cli import log
from ramp.core.files import atomic_path, remove, write_json


def fetch_asset(registry: Registry, name: str, out_dir: Path) -> dict[str, Any]:
    """Fetch from the first source that is there; write and return ``asset.json``.

    A source that is merely not here (no such path, no network) lets the next one try; a wrong checksum, a
    gated repository or a full disk ends the search at once.
    """
    asset = registry.get(name)
    reasons = []
    for left_by_a_killed_job in out_dir.glob(".*.partial"):
        remove(left_by_a_killed_job)
    for source in asset.sources:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            got = fetch(name, source, registry, out_dir)
        except SourceAbsent as absent:
            reasons.append(str(absent))
            continue
        except OSError as error:
            raise FetchError(f"cannot write to {out_dir} ({error.strerror or error})") from None
        inside = got.path.is_relative_to(out_dir)
        record = {
            "name": name,
            "kind": got.kind,
            "source": got.source,
            "revision": got.revision,
            "sha256": got.sha256,
            "bytes": got.bytes,
            "licence": asset.licence,
            "path": str(got.path.relative_to(out_dir) if inside else got.path),
            "note": asset.note,
        }
        write_json(out_dir / "asset.json", record)
        return record
    raise FetchError(f"asset '{name}' cannot be had: " + "; ".join(reasons))


def fetch_optional(registry: Registry, name: str, out_dir: Path) -> dict[str, Any]:
    """``fetch_asset``, or an ``asset.json`` that says nothing but why there is nothing."""
    try:
        return fetch_asset(registry, name, out_dir)
    except FetchError as error:
        log.info("going on without the optional asset '%s': %s", name, error)
        record = {"name": name, "kind": ABSENT, "reason": str(error)}
        write_json(out_dir / "asset.json", record)
        return record


def is_local(registry: Registry, name: str) -> bool:
    """Whether one of the asset's ``path`` sources is there: asked when a run is planned, without a network."""
    paths = [source for source in registry.get(name).sources if isinstance(source, PathSource)]
    return any((registry.root / os.path.expandvars(os.path.expanduser(source.path))).exists() for source in paths)


def make_model(registry: Registry, name: str, assets: Path, out_dir: Path) -> dict[str, Any]:
    """A checkpoint folder of a fetched model: GGUF files are de-quantized, checkpoints are linked to."""
    asset = registry.get(name)
    if asset.type != "model" or asset.kind == "trained":
        made = "trained by python -m ramp.assets.train" if asset.kind == "trained" else f"of type {asset.type}"
        raise AssetError(f"asset '{name}' is {made}, not a checkpoint to fetch")
    path = asset_path(assets, name)
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        released = _from_gguf(path, partial, name) if path.suffix == ".gguf" else _from_checkpoint(path, partial)
        record = {**asset_record(assets, name), **released, "path": "."}
        write_json(partial / "asset.json", record)
    return record


def _from_gguf(path: Path, out_dir: Path, name: str) -> dict[str, Any]:
    from ramp.assets.gguf_import import convert, file_facts

    facts = file_facts(path)
    require_room(out_dir, 4 * facts["params"], name)
    convert(path, out_dir)
    return {
        "released_bytes": path.stat().st_size,
        "released_format": facts["format"],
        "linears_released_bytes": facts["linears_bytes"],
    }


def _from_checkpoint(path: Path, out_dir: Path) -> dict[str, Any]:
    """Link to every file of a Hugging Face folder; only safetensors weights are taken, never pickles."""
    from ramp.models.folder import ModelFolder

    if not path.is_dir():
        raise AssetError(f"{path} is neither a .gguf file nor a Hugging Face checkpoint folder")
    for file in tree_files(path):
        link = out_dir / file.relative_to(path)
        if file.suffix in (".bin", ".pt", ".pth", ".gguf") or file.name == "asset.json":
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    model = ModelFolder(out_dir)
    model.check_linears()
    first = model.reader.get(f"{model.linears[0].name}.weight")
    return {
        "released_bytes": sum(file.stat().st_size for file in out_dir.glob("*.safetensors")),
        "released_format": str(first.dtype).removeprefix("torch."),
        "linears_released_bytes": sum(linear.params for linear in model.linears) * first.element_size(),
    }


def make_tasks(registry: Registry, assets: Path, tasks: Sequence[str], out_dir: Path) -> None:
    """Write ``{task}.jsonl`` for each task, from the asset that lists it."""
    from ramp.assets.task_rows import TaskError, write_task

    listed = {task: name for name, asset in registry.of_type("tasks").items() for task in asset.tasks}
    for task in tasks:
        if task not in listed:
            raise TaskError(f"unknown task '{task}' in {registry.file}: known are {', '.join(sorted(listed))}")
    for task in tasks:
        name = listed[task]
        rows = write_task(asset_path(assets, name), registry.get(name).tasks[task], out_dir / f"{task}.jsonl")
        log.info("task %s: %d rows", task, rows)
