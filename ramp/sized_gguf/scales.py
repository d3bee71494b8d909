"""The float16 scales of ggml blocks: taken out of a tensor's bytes, and put back.

A block's weights are linear in its scales: w = d * a - dmin * b (of Q5_1 d * a + m), where a and b hold codes,
sub-scales and sub-minima. So a and b are what the block de-quantizes to with d = 1, dmin = 0 and with d = 0, dmin = 1.
All that has to be known of a format is where d and dmin lie (ggml/src/ggml-common.h of llama.cpp).
"""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from ramp.core.errors import RampError
from ramp.quantizers.ggml import BLOCKS

PLACES: dict[str, tuple[int, int | None]] = {
    "Q4_0": (0, None),
    "Q5_0": (0, None),
    "Q5_1": (0, 2),
    "Q8_0": (0, None),
    "IQ4_NL": (0, None),
    "Q2_K": (80, 82),
    "Q3_K": (108, None),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208, None),
    "IQ4_XS": (0, None),
    "IQ3_XXS": (0, None),
    "IQ3_S": (0, None),
}
"""Byte offsets of d and dmin in a block."""


class ScaleError(RampError):
    """A type whose scales are not known, or scales that float16 cannot hold."""


class BlockScales:
    """The scales of one tensor and what they multiply.

    ``scales`` is float32 [rows, s, blocks] with s = 1 (d) or 2 (d, dmin), ``basis`` float32 [rows, s, blocks, block].
    The weights are sum_s scales * basis.
    """

    def __init__(self, packed: np.ndarray, type_name: str) -> None:
        """Take apart the bytes uint8 [rows, row bytes] of a tensor."""
        if type_name not in PLACES:
            raise ScaleError(f"the scales of {type_name} are not known: only those of {', '.join(PLACES)} are")
        self.type = type_name
        self.block, size = BLOCKS[type_name]
        self._places = [place for place in PLACES[type_name] if place is not None]
        self._bytes = np.ascontiguousarray(packed).reshape(len(packed), -1, size)
        found = [self._bytes[..., p : p + 2].copy().view(np.float16)[..., 0] for p in self._places]
        self.scales = np.stack(found, axis=1).astype(np.float32)
        self.basis = np.stack([self._unit(index) for index in range(len(found))], axis=1)

    def _unit(self, index: int) -> np.ndarray:
        """Return the weights [rows, blocks, block] with one scale 1 and the other 0."""
        altered = self._bytes.copy()
        for each, place in enumerate(self._places):
            value = np.array([1.0 if each == index else 0.0], dtype=np.float16).view(np.uint8)
            altered[..., place : place + 2] = value
        flat = altered.reshape(len(altered), -1)
        weights = dequantize(flat, GGMLQuantizationType[self.type])
        return weights.reshape(len(altered), -1, self.block).astype(np.float32, copy=False)

    def packed(self, scales: np.ndarray) -> np.ndarray:
        """Return the tensor's bytes with other ``scales`` [rows, s, blocks], rounded to float16."""
        if not (np.abs(scales) <= np.finfo(np.float16).max).all():
            raise ScaleError(f"scales of a {self.type} tensor are beyond float16")
        half, altered = scales.astype(np.float16), self._bytes.copy()
        for index, place in enumerate(self._places):
            altered[..., place : place + 2] = half[:, index, :, None].view(np.uint8).reshape(*half[:, index].shape, 2)
        return altered.reshape(len(altered), -1)
