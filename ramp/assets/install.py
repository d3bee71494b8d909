"""Install assets: fetched files, model folders and task rows of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ramp.assets.asset_record import ABSENT, AssetError, asset_path, asset_record, tree_files
from ramp.assets.fetch import fetch, local_path
from ramp.assets.fetched import FetchError, SourceAbsent, remove_partials
from ramp.assets.registry import PathSource, Registry
from ramp.core.cli import log
from ramp.core.files import atomic_path, write_json


def fetch_asset(registry: Registry, name: str, out_dir: Path) -> dict[str, Any]:
    """Fetch from the first available source; write and return ``asset.json``.

    Where a source is not available (no such path, no network) the next one is tried; a wrong checksum, a gated
    repository or a full disk raises ``FetchError`` at once.
    """
    asset = registry.get(name)
    reasons = []
    remove_partials(out_dir)
    for source in asset.sources:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            got = fetch(name, source, registry, out_dir)
        except SourceAbsent as absent:
            reasons.append(str(absent))
            continue
        except OSError as error:
            raise FetchError(f"cannot write to {out_dir} ({error.strerror or error})") from None
        path = got.path.relative_to(out_dir) if got.path.is_relative_to(out_dir) else got.path
        record = {**asdict(got), "name": name, "licence": asset.licence, "note": asset.note, "path": str(path)}
        write_json(out_dir / "asset.json", record)
        return record
    raise FetchError(f"asset '{name}' is not available: " + "; ".join(reasons))


def fetch_optional(registry: Registry, name: str, out_dir: Path) -> dict[str, Any]:
    """Run ``fetch_asset``; where it fails, write and return an ``asset.json`` of kind absent with the reason."""
    try:
        return fetch_asset(registry, name, out_dir)
    except FetchError as error:
        log.info("going on without the optional asset '%s': %s", name, error)
        record = {"name": name, "kind": ABSENT, "reason": str(error)}
        write_json(out_dir / "asset.json", record)
        return record


def is_local(registry: Registry, name: str) -> bool:
    """Return whether one of the asset's ``path`` sources exists, without a network: asked when a run is planned."""
    paths = [source for source in registry.get(name).sources if isinstance(source, PathSource)]
    return any(local_path(source, registry.root).exists() for source in paths)


def make_model(registry: Registry, name: str, assets: Path, out_dir: Path) -> dict[str, Any]:
    """Make a checkpoint folder of a fetched model: de-quantize a GGUF file, link to a checkpoint's files.

    Returns ``asset.json`` with ``released_bytes`` (the released file or shards), ``released_format`` (types of the
    linears) and ``linears_released_bytes``.
    """
    asset = registry.get(name)
    if asset.type != "model" or asset.kind == "trained":
        made = "trained by python -m ramp.assets.train_tiny" if asset.kind == "trained" else f"of type {asset.type}"
        raise AssetError(f"asset '{name}' is {made}, not a checkpoint to fetch")
    path = asset_path(assets, name)
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        if path.suffix == ".gguf":
            from ramp.assets.gguf_import import import_gguf

            released = import_gguf(path, partial, name)
        else:
            released = _link_checkpoint(path, partial)
        record = {**asset_record(assets, name), **released, "path": "."}
        write_json(partial / "asset.json", record)
    return record


def _link_checkpoint(path: Path, out_dir: Path) -> dict[str, Any]:
    """Link to the files of a Hugging Face folder, safetensors weights only (never pickles); return released sizes."""
    from ramp.models.folder import ModelFolder

    if not path.is_dir():
        raise AssetError(f"{path} is neither a .gguf file nor a Hugging Face checkpoint folder")
    for file in tree_files(path):
        if file.suffix in (".bin", ".pt", ".pth", ".gguf") or file.name == "asset.json":
            continue
        link = out_dir / file.relative_to(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    model = ModelFolder(out_dir)
    model.check_linears()
    linears, first = model.linears, model.reader.get(f"{model.linears[0].name}.weight")
    return {
        "released_bytes": sum(file.stat().st_size for file in out_dir.glob("*.safetensors")),
        "released_format": str(first.dtype).removeprefix("torch."),
        "linears_released_bytes": sum(linear.params for linear in linears) * first.element_size(),
    }


def make_tasks(registry: Registry, assets: Path, tasks: Sequence[str], out_dir: Path) -> None:
    """Write ``{task}.jsonl`` for each task, from the asset that lists it."""
    from ramp.assets.task_rows import TaskError, write_task

    listed = {task: name for name, asset in registry.of_type("tasks").items() for task in asset.tasks}
    for task in tasks:
        if task not in listed:
            raise TaskError(f"unknown task '{task}' in {registry.file} (known: {', '.join(sorted(listed))})")
    for task in tasks:
        name = listed[task]
        rows = write_task(asset_path(assets, name), registry.get(name).tasks[task], out_dir / f"{task}.jsonl")
        log.info("task %s: %d rows", task, rows)
