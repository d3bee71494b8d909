"""The importance matrix: mean squares of every unit's inputs on calibration text, as llama.cpp's own file.

The file is the only place where it is kept. What is read back from it weighs our quantization, and it is what
``llama-quantize --imatrix`` takes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramp.calibration.block import BlockVisit
from ramp.calibration.stream import block_runner, stream
from ramp.export.llamacpp_quantize import write_importance
from ramp.gguf_format.names import gguf_tensors
from ramp.models.folder import ModelFolder


def importance_windows(model: ModelFolder, tokens: int, length: int) -> tuple[int, int]:
    """Return length and number of the windows behind an importance matrix of so many tokens.

    A window is no longer than the model's context: there are more of them then.
    """
    length = min(length, int(model.config.max_position_embeddings))
    return length, max(tokens // length, 1)


def measure_importance(model: ModelFolder, windows: Tensor, out: Path) -> None:
    """Write the importance matrix of the float model on windows int64 [count, length].

    Linears by the input of their site; the head, or the embedding that serves as head, by the final norm's output. An
    embedding that is looked up only has none.
    """
    by_site: dict[str, np.ndarray] = {}
    last: list[np.ndarray] = []

    def visit(block: BlockVisit) -> None:
        by_site.update({block.site_name(kind): stats.sqmean.numpy() for kind, stats in block.activations().items()})

    @torch.no_grad()
    def head_input(hidden: Tensor) -> None:
        norm = block_runner(model, 1, device="cpu").final_norm()
        total = torch.zeros(hidden.shape[-1], dtype=torch.float64)
        for window in hidden:
            total += norm(window).square().sum(0, dtype=torch.float64)
        last.append((total / (hidden.shape[0] * hidden.shape[1])).float().numpy())

    stream(model.path, windows, visit, device="cpu", result=head_input, label="importance matrix")
    head = "embedding" if model.tied else "head"
    found = {x.name: by_site[x.linear.site] for x in gguf_tensors(model.config) if x.linear}
    found |= {x.name: last[0] for x in gguf_tensors(model.config) if x.kind == head}
    write_importance(out, found, tokens=windows.numel(), length=windows.shape[1])
