"""A finished GGUF file once more with tuned scales and gains: whoever made it, so that rivals are tuned alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ramp.core.atomic_files import atomic_path
from ramp.gguf_format.reader import GgufFile
from ramp.sized_gguf.job import Job
from ramp.sized_gguf.make import tuned
from ramp.sized_gguf.scales import PLACES, ScaleError
from ramp.sized_gguf.units import LAST_RESORT

UNSCALED = (LAST_RESORT, "F32")
"""Types without scales, whose tensors stay as they are."""


def tuned_copy(job: Job, source: Path) -> Path:
    """Return a copy of a file of the job's model, tuned for ``job.tune_steps``; it lies beside it and is made once.

    Bytes change in place, so that types, order and size stay. Raises ``ScaleError`` for types of unknown scales.
    """
    path = source.with_name(f"{source.stem}-tuned{job.tune_steps}.gguf")
    if path.is_file():
        return path
    file = GgufFile(source)
    types = {unit.name: file.type(unit.name) for unit in job.units}
    if unknown := sorted(set(types.values()) - set(PLACES) - set(UNSCALED)):
        raise ScaleError(f"{source.name} has tensors of {', '.join(unknown)}, whose scales are not known: not tuned")
    packed = {unit.name: file.raw(unit.name).reshape(unit.tensor.shape[0], -1) for unit in job.units}
    changed = tuned(job, types, packed)
    with atomic_path(path) as partial:
        shutil.copyfile(source, partial)
        with partial.open("r+b") as stream:
            for name, values in {**changed.packed, **changed.gains}.items():
                stream.seek(file.offset(name))
                stream.write(np.ascontiguousarray(values).tobytes())
    return path
