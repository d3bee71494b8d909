"""The mix of llama.cpp that is nearest in size to a file, from the same float file and importance matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ramp.core.cli import log
from ramp.export.llamacpp import LlamaCppError
from ramp.export.llamacpp_check import Check, judge
from ramp.export.llamacpp_quantize import quantize_apart
from ramp.export.write import export
from ramp.gguf_format.reader import GgufFile
from ramp.gguf_format.type_names import MIXES
from ramp.models.folder import ModelFolder


@dataclass(frozen=True)
class Rival:
    """One mix as a file."""

    mix: str
    path: Path

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


def float_file(model: ModelFolder, folder: Path) -> Path:
    """Return the float32 GGUF file of a model, written with its plan unless both are there."""
    path = folder / "float.gguf"
    if not path.is_file() or not path.with_suffix(".plan.json").is_file():
        export(model.path, path)
    return path


def make_mix(mix: str, source: Path, imatrix: Path | None, folder: Path, threads: int) -> Rival:
    """Return a mix as llama.cpp makes it, with its own choice for embedding and head, unless it is there.

    Raises ``LlamaCppError`` where it refuses, as it does low-bit mixes without an importance matrix.
    """
    path = folder / f"{mix}{'' if imatrix else '-plain'}.gguf"
    if not path.is_file():
        quantize_apart(source, path, mix, table_type=None, imatrix=imatrix, threads=threads)
    return Rival(mix, path)


def check_bytes(path: Path, types: Mapping[str, str], source: Path, imatrix: Path, threads: int) -> Check:
    """Count the tensors of a file that llama.cpp's own quantizer makes otherwise, of the same float file and matrix.

    types: those of the tensors that were quantized. All count where llama.cpp refuses.
    """
    theirs = path.with_name(f"{path.stem}-llama.gguf")
    ours = GgufFile(path)
    try:
        quantize_apart(
            source, theirs, "Q4_K_M", table_type=None, imatrix=imatrix, tensor_types=dict(types), threads=threads
        )
        file = GgufFile(theirs)
        unlike = sum(
            file.type(name) != ours.type(name) or not np.array_equal(file.raw(name), ours.raw(name))
            for name in ours.names()
        )
    except LlamaCppError as error:
        log.error("%s", error)
        unlike = len(ours.names())
    finally:
        theirs.unlink(missing_ok=True)
    return judge(path.name, "tensors_unlike_llama_cpp", unlike)


def nearest_mix(size: int, source: Path, imatrix: Path, folder: Path, threads: int, ordered: bool) -> Rival | None:
    """Return the mix whose file is nearest to ``size`` bytes; None where llama.cpp cannot make one.

    Sizes rise along ``MIXES`` where all rows take K-quants, so that a binary search makes four or five of them. Where
    they do not, fallbacks change the order (on SmolLM2 IQ4_XS is smaller than Q3_K_M), and two mixes on either side of
    the nearest one are made too. A mix that llama.cpp refuses is left out.
    """
    mixes, made = list(MIXES), dict[str, Rival]()
    low, high = 0, len(mixes)
    while low < high:
        middle = (low + high) // 2
        try:
            rival = made[mixes[middle]] = make_mix(mixes[middle], source, imatrix, folder, threads)
        except LlamaCppError as error:
            log.warning("%s", error)
            del mixes[middle]
            high = high - 1
            continue
        log.info("llama.cpp's %s: %d bytes", rival.mix, rival.bytes)
        low, high = (middle + 1, high) if rival.bytes < size else (low, middle)
    if not made:
        return None
    if not ordered:
        place = mixes.index(min(made.values(), key=lambda rival: abs(rival.bytes - size)).mix)
        for mix in mixes[max(place - 2, 0) : place + 3]:
            try:
                made[mix] = make_mix(mix, source, imatrix, folder, threads)
            except LlamaCppError as error:
                log.warning("%s", error)
    return min(made.values(), key=lambda rival: abs(rival.bytes - size))
