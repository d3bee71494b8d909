"""Files that the stages of a study leave for each other, and a digest of the content of each.

The content of a file is what two runs of one commit have in common: times, memory, commits, versions, hardware and the
kind of arithmetic do not count, nor the scores of a text that lies beside one clone and not beside another. JSON is
digested sorted and without the keys in ``NOT_COMPARED``; safetensors tensor by tensor in the order of their names, with
their metadata as JSON; everything else byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.assets.options import OPTIONAL_TEXTS
from ramp.core.atomic_files import SEAL, read_json
from ramp.core.checksum_sidecar import ENDING
from ramp.core.errors import RampError
from ramp.core.tensors import SEAL as TENSORS_SEAL

NOT_COMPARED = {
    "wall_s", "search_wall_s", "quantize_wall_s", "peak_rss_bytes", "peak_gpu_bytes",
    "prompt_tokens_per_s", "generation_tokens_per_s",
    "commit", "command", "hardware", "threads", "arithmetic",
    "versions", "package_versions", "lm_eval_version", "transformers_version",
    # of bytes; what they are of is digested itself
    "sha256", "files_sha256", "bank_sha256", "fold_sha256", SEAL, TENSORS_SEAL,
    *OPTIONAL_TEXTS, "paragraphs_dropped",  # scores and counts of a text that another machine may lack
}  # fmt: skip
"""Columns of tables and keys of JSON files that may differ between two runs of one commit."""

DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits, of the sha256."""

CHUNK = 1 << 22


@dataclass(frozen=True)
class Stage:
    """The files of one stage: glob patterns below the results folder."""

    name: str
    patterns: tuple[str, ...]
    without: tuple[str, ...] = ()  # patterns of files that name times, or another program's measurements


STAGES = (
    Stage("texts", ("texts/*",)),
    Stage("tasks", ("tasks/*",)),
    Stage("models", ("models/*/*",)),
    Stage("calibration", ("calibration/**/*",)),
    Stage("folds", ("folds/**/*",)),
    Stage("bank", ("bank/**/*",)),
    Stage("sensitivity", ("sensitivity/**/*",)),
    Stage("reference", ("reference/**/*",)),
    Stage("search", ("search/**/*",), ("summary.txt",)),  # the summary says the seconds
    Stage("allocations", ("allocations/**/*",)),
    Stage("quantized", ("quantized/**/*",)),
    # llama.cpp's own kernels, chosen by the processor; a card repeats the metrics
    Stage("halo", ("halo/**/*",), ("*.check.json", "*.card.md")),
    Stage("metrics", ("metrics/**/*",)),
    Stage("noise", ("noise/**/*",), ("fast_*.json",)),  # the library's own kernels, chosen by the processor
    Stage("leakage", ("leakage/**/*",)),
    Stage("tasks_scored", ("tasks_scored/**/*",)),
    # a study in a folder of another (results/league) has its own stages below that name: MODEL/ALLOCATOR/BUDGET alone
    Stage("league", ("league/*/accepted.json", "league/*/*/[0-9]*/[0-9]*/[0-9]*.json")),
    Stage("optimum", ("optimum/**/*",)),
    Stage("fold_ablation", ("fold_ablation/**/*",)),
    Stage("gguf", ("gguf/**/*",), ("checks.json",)),  # as those of halo
)
"""Every stage whose files count, in the order in which data passes."""


def stage_files(results: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield (stage, its files in order) of a results folder, in pipeline order; stages without files are left out."""
    for stage in STAGES:
        found = {path for pattern in stage.patterns for path in results.glob(pattern) if path.is_file()}
        files = sorted(
            path
            for path in found
            if not any(part.startswith(".") for part in path.relative_to(results).parts)  # partial files, time stamps
            and path.suffix != ENDING  # a checksum of the file beside it
            and not any(path.match(pattern) for pattern in stage.without)
        )
        if files:
            yield stage.name, files


def without_times(value: Any) -> Any:
    """Return a JSON value without the keys in ``NOT_COMPARED``, at any depth."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in NOT_COMPARED}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def content_digest(path: Path) -> str:
    """Return the digest of a file's content, ``DIGITS`` hexadecimal digits; ``RampError`` if it is damaged."""
    digest = hashlib.sha256()
    if path.suffix == ".json":
        digest.update(_canonical(read_json(path, object)))
    elif path.suffix == ".safetensors":
        for part in _tensor_parts(path):
            digest.update(part)
    else:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
    return digest.hexdigest()[:DIGITS]


def _canonical(value: Any) -> bytes:
    """Return what counts of a JSON value, as bytes."""
    return json.dumps(without_times(value), sort_keys=True).encode()


def _metadata(text: str) -> Any:
    """Return a metadata value of safetensors, which is JSON where this project wrote it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _tensor_parts(path: Path) -> Iterator[bytes]:
    """Yield what counts of a safetensors file: metadata, then name, type, shape and bytes of every tensor.

    The header is read here and not by the library: digests of a bank of gigabytes need no tensor in memory.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > size:
                raise ValueError
            header = json.loads(stream.read(length))
            metadata = without_times({name: _metadata(text) for name, text in header.pop("__metadata__", {}).items()})
            tensors = {name: (about["dtype"], about["shape"], *about["data_offsets"]) for name, about in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RampError(f"{path} is no safetensors file: delete it and run its stage again") from None
        yield _canonical(metadata)
        for name, (dtype, shape, begin, end) in sorted(tensors.items()):
            yield json.dumps([name, dtype, shape]).encode()
            stream.seek(8 + length + begin)
            left = end - begin
            while left > 0:
                part = stream.read(min(CHUNK, left))
                if not part:
                    raise RampError(f"{path} ends inside tensor '{name}': delete it and run its stage again")
                left -= len(part)
                yield part
