"""Files that only the next stages read: in a study that keeps its results alone they go when their last reader is done.

What is published stays in every case: records, allocations, metrics, exported GGUF files, meta.json of every row.
"""

from __future__ import annotations

import re

PASSING = (
    "bank/{model}/{bank}/bank.safetensors",
    "quantized/{model}/{row}/model.safetensors",
    "quantized/{model}/{row}/model.gguf",
    "halo/{model}/float-b16-s{seed}.gguf",
    "packages/{model}/{row}/linears",
    "packages/{model}/{row}/native",
)
"""Below the results folder, with a name in braces for one part of a path."""

_PATTERNS = [
    re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", each)))
    for each in PASSING
]


def passes(path: str) -> bool:
    """Return whether a file below the results folder, or a rule's pattern of one, is one of ``PASSING``."""
    return any(pattern.fullmatch(path) for pattern in _PATTERNS)
