"""A checkpoint folder of a fetched model: links to its files, or a released GGUF file de-quantized."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ramp.assets.fetched_files import asset_path, asset_record, require_room, tree_files
from ramp.assets.registry import Registry
from ramp.core.atomic_files import atomic_path, write_json
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.gguf_format.configuration import CHECKPOINT, read_configuration
from ramp.gguf_format.names import GgufError, gguf_tensors
from ramp.gguf_format.reader import GgufFile, gguf_float
from ramp.models.asset_file import file_checksums
from ramp.models.folder import ModelFolder, checkpoint_files
from ramp.models.save_folder import save_model, save_tokenizer


def make_model(registry: Registry, name: str, assets: Path, out_dir: Path) -> dict[str, Any]:
    """Make a checkpoint folder of a fetched model: de-quantize a GGUF file, link to a checkpoint's files.

    Returns ``asset.json`` with ``released_bytes`` (the released file or shards), ``released_format`` (types of the
    linears) and ``linears_released_bytes``.
    """
    asset = registry.get(name)
    if asset.type != "model" or asset.kind == "trained":
        made = "trained by python -m ramp.assets.train_tiny" if asset.kind == "trained" else f"of type {asset.type}"
        raise RampError(f"asset '{name}' is {made}, not a checkpoint to fetch")
    path = asset_path(assets, name)
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        released = import_gguf(path, partial, name) if path.suffix == ".gguf" else link_checkpoint(path, partial)
        record = {**asset_record(assets, name).model_dump(exclude_unset=True), **released, "path": "."}
        record["files_sha256"] = file_checksums(partial, checkpoint_files(partial))
        write_json(partial / "asset.json", record, sealed=True)
    return record


def link_checkpoint(path: Path, out_dir: Path) -> dict[str, Any]:
    """Link to the files of a Hugging Face folder, safetensors weights only (never pickles); return released sizes."""
    if not path.is_dir():
        raise RampError(f"{path} is neither a .gguf file nor a Hugging Face checkpoint folder")
    model = ModelFolder(path)
    model.check()
    for file in tree_files(path):
        if file.suffix in (".bin", ".pt", ".pth", ".gguf") or file.name == "asset.json":
            continue
        link = out_dir / file.relative_to(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    linears, first = model.linears, model.reader.get(f"{model.linears[0].name}.weight")
    return {
        "released_bytes": sum(file.stat().st_size for file in model.reader.files),
        "released_format": str(first.dtype).removeprefix("torch."),
        "linears_released_bytes": sum(linear.params for linear in linears) * first.element_size(),
    }


def import_gguf(path: Path, out_dir: Path, name: str) -> dict[str, Any]:
    """Write config.json, model.safetensors (float32) and the tokenizer's files into the existing ``out_dir``.

    Returns ``released_bytes`` (the file), ``linears_released_bytes`` and ``released_format``: types of the linears,
    most bytes first, joined by "/". Raises ``GgufError`` for a file that is not readable, holds values that are not
    finite or computes what its configuration cannot say, ``FetchError`` where the disk is too small.
    """
    import torch

    file = GgufFile(path)
    config = read_configuration(file)
    require_room(out_dir, 4 * sum(math.prod(file.shape(tensor)) for tensor in file.names()), name)
    log.info("de-quantizing %s to float32", path.name)
    model = gguf_float(file, config)
    save_model(model, out_dir)
    save_tokenizer(read_tokenizer(path, file), out_dir)
    reader = ModelFolder(out_dir).reader
    if not all(bool(torch.isfinite(reader.get(tensor)).all()) for tensor in reader.names()):
        raise GgufError(f"{path} de-quantizes to values that are not finite: get the file again")
    linears = {tensor.name for tensor in gguf_tensors(config) if tensor.linear}
    by_type: dict[str, int] = {}
    for tensor in file.names():
        if tensor in linears:
            by_type[file.type(tensor)] = by_type.get(file.type(tensor), 0) + file.raw(tensor).nbytes
    return {
        "released_bytes": path.stat().st_size,
        "released_format": "/".join(sorted(by_type, key=lambda kind: -by_type[kind])),
        "linears_released_bytes": sum(by_type.values()),
    }


def read_tokenizer(path: Path, file: GgufFile) -> Any:
    """Return the file's tokenizer, with the pre-tokenizer that the file names.

    For ``tokenizer.ggml.pre = smollm`` transformers builds GPT-2's pre-tokenizer; llama.cpp and the released model
    split digits first. On 400,000 characters of Wikipedia that gave 107,109 tokens against llama.cpp's 107,107; with
    ``Digits`` in front the two agree exactly. Qwen2's needs no correction. Raises ``GgufError``.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except Exception as error:  # whatever transformers and tokenizers raise
        reason = " ".join(str(error).split())[:200]
        raise GgufError(f"{path} has no tokenizer that transformers can read ({reason}): {CHECKPOINT}") from None
    if file.metadata("tokenizer.ggml.pre") == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    return tokenizer
