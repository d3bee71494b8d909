"""Stage 1, assets: fetch what the registry names, make model folders and task rows of it.

``fetch``  -> R/assets/{asset}/: the file (a hub or local checkpoint stays where it is) and ``asset.json``
``model``  -> R/models/{model}/: Hugging Face checkpoint folder and ``asset.json`` with the released sizes
``tasks``  -> R/tasks/{task}.jsonl

``asset.json``: ``name``, ``kind`` (wheel, hub, path, or absent), ``source``, ``revision``, ``sha256``, ``bytes``,
``licence``, ``path`` (relative to the folder, or absolute where it stays elsewhere), ``note``. An optional asset
that cannot be had is ``kind: absent`` with a ``reason``. A model's has ``released_bytes`` (the released file or
shards), ``released_format`` and ``linears_released_bytes`` besides.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp import cli
from ramp.asset_files import ABSENT, AssetError, asset_path, asset_record, tree_files
from ramp.cli import log
from ramp.fetch import FetchError, SourceAbsent, fetch, require_room
from ramp.files import atomic_path, remove, write_json
from ramp.registry import PathSource, Registry, load_registry


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
        made = "trained by python -m ramp.train" if asset.kind == "trained" else f"of type {asset.type}"
        raise AssetError(f"asset '{name}' is {made}, not a checkpoint to fetch")
    path = asset_path(assets, name)
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        released = _from_gguf(path, partial, name) if path.suffix == ".gguf" else _from_checkpoint(path, partial)
        record = {**asset_record(assets, name), **released, "path": "."}
        write_json(partial / "asset.json", record)
    return record


def _from_gguf(path: Path, out_dir: Path, name: str) -> dict[str, Any]:
    from ramp.gguf_import import convert, file_facts

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
    from ramp.models import CheckpointReader, check_linears, list_linears, read_config

    if not path.is_dir():
        raise AssetError(f"{path} is neither a .gguf file nor a Hugging Face checkpoint folder")
    for file in tree_files(path):
        link = out_dir / file.relative_to(path)
        if file.suffix in (".bin", ".pt", ".pth", ".gguf") or file.name == "asset.json":
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    reader, linears = CheckpointReader(out_dir), list_linears(read_config(out_dir))
    check_linears(reader, linears)
    tensors = [reader.get(f"{linear.name}.weight") for linear in linears[:1]]
    return {
        "released_bytes": sum(file.stat().st_size for file in out_dir.glob("*.safetensors")),
        "released_format": str(tensors[0].dtype).removeprefix("torch."),
        "linears_released_bytes": sum(linear.params for linear in linears) * tensors[0].element_size(),
    }


def make_tasks(registry: Registry, assets: Path, tasks: Sequence[str], out_dir: Path) -> None:
    """Write ``{task}.jsonl`` for each task, from the asset that lists it."""
    from ramp.tasks import TaskError, write_task

    listed = {task: name for name, asset in registry.of_type("tasks").items() for task in asset.tasks}
    for task in tasks:
        if task not in listed:
            raise TaskError(f"unknown task '{task}' in {registry.file}: known are {', '.join(sorted(listed))}")
    for task in tasks:
        name = listed[task]
        rows = write_task(asset_path(assets, name), registry.get(name).tasks[task], out_dir / f"{task}.jsonl")
        log.info("task %s: %d rows", task, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="fetch assets, make model folders and task rows of them")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="fetch one asset")
    one.add_argument("--asset", required=True, help="name in the registry")
    one.add_argument("--optional", action="store_true", help="an asset that cannot be had is no error: write why")
    one.add_argument("--out", type=Path, required=True, help="folder of this asset")
    model = commands.add_parser("model", help="make a checkpoint folder of a fetched model")
    model.add_argument("--model", required=True, help="name in the registry")
    model.add_argument("--assets", type=Path, required=True, help="folder of all fetched assets")
    model.add_argument("--out", type=Path, required=True, help="folder of this model")
    tasks = commands.add_parser("tasks", help="write the rows of commonsense tasks")
    tasks.add_argument("--tasks", nargs="+", required=True, help="names in the registry")
    tasks.add_argument("--assets", type=Path, required=True, help="folder of all fetched assets")
    tasks.add_argument("--out", type=Path, required=True, help="folder of the .jsonl files")
    for command in (one, model, tasks):
        command.add_argument("--registry", type=Path, default=Path("config/assets.yaml"))
        cli.add_common(command)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    registry = load_registry(args.registry)
    if args.command == "fetch":
        record = (fetch_optional if args.optional else fetch_asset)(registry, args.asset, args.out)
        log.info(
            "asset %s: %s", args.asset, record.get("reason") or f"{record['bytes']} bytes, {record['sha256'][:12]}"
        )
    elif args.command == "model":
        cli.set_threads(args.threads)
        record = make_model(registry, args.model, args.assets, args.out)
        log.info("model %s: released %s, %d bytes", args.model, record["released_format"], record["released_bytes"])
    else:
        make_tasks(registry, args.assets, args.tasks, args.out)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
