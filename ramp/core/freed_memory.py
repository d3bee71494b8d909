"""Freed memory stays with the process: the activations of one operation are the room of the next.

glibc gives every buffer of some MiB back to the system as it is freed, and the system clears each page of the next one:
8 to 10 % of the processor time of a forward pass of SmolLM2. Peak memory is the same, the memory after it is not.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt`` (malloc.h)."""

BUFFER_BYTES = 64 << 20
"""Larger buffers, weights mostly, still come from the system and go back to it: a slice of logits takes 50 MB."""

FREE_BYTES = 512 << 20
"""Free memory at the end of the heap that is kept."""


def keep() -> bool:
    """Ask glibc to keep freed memory; return whether it will (other C libraries are left as they are)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, BUFFER_BYTES) and mallopt(TRIM_THRESHOLD, FREE_BYTES))
