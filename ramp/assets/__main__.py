"""Fetch the registry's assets, and make model folders and task rows of them.

``fetch``  -> R/assets/{asset}/: the file (a hub or local checkpoint stays where it is) and ``asset.json``
``model``  -> R/models/{model}/: Hugging Face checkpoint folder and ``asset.json`` with the released sizes
``tasks``  -> R/tasks/{task}.jsonl

``asset.json``: ``name``, ``kind`` (wheel, hub, path, or absent), ``source``, ``revision``, ``sha256``, ``bytes``,
``licence``, ``path`` (relative to the folder, or absolute where it stays elsewhere), ``note``. An optional asset that
is not available is ``kind: absent`` with a ``reason``. A model's has ``released_bytes``, ``released_format`` and
``linears_released_bytes`` besides (``ramp.assets.install.make_model``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ramp.assets.install import fetch_asset, fetch_optional, make_model, make_tasks
from ramp.assets.registry import load_registry
from ramp.core import cli
from ramp.core.cli import log


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="fetch assets, make model folders and task rows of them")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="fetch one asset")
    one.add_argument("--asset", required=True, help="name in the registry")
    one.add_argument("--optional", action="store_true", help="an asset that is not available is no error: write why")
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
    """Run the command line; see the module's docstring."""
    args = _parser().parse_args(argv)
    registry = load_registry(args.registry)
    if args.command == "fetch":
        record = (fetch_optional if args.optional else fetch_asset)(registry, args.asset, args.out)
        found = record.get("reason") or f"{record['bytes']} bytes, {record['sha256'][:12]}"
        log.info("asset %s: %s", args.asset, found)
    elif args.command == "model":
        cli.set_threads(args.threads)
        record = make_model(registry, args.model, args.assets, args.out)
        log.info("model %s: released %s, %d bytes", args.model, record["released_format"], record["released_bytes"])
    else:
        make_tasks(registry, args.assets, args.tasks, args.out)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
