"""Comparisons of ``snakemake benchmarks`` and ``snakemake parity``: one JSON piece each.

A piece is a module of this folder with its options, the model and texts that it needs and the file of a package; the
rule turns these into inputs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Planned:
    """One piece: ``python -m benchmarks.{module} {options} ...``."""

    module: str
    table: str
    options: str = ""
    package: str = ""  # file stem in baselines/ whose environment the piece needs
    model: bool = False  # needs the study's source model and its calibration text
    heldout: bool = False  # and its held-out text
    runs: tuple[str, ...] = ()  # files of ours that it runs in another process, beside those that it imports
    card: bool = False  # needs a GPU: no part of ``snakemake benchmarks``, which runs anywhere

    @property
    def timed(self) -> bool:
        """Return whether the piece measures time: then it runs alone on the machine."""
        return self.table == "benchmarks"

    def command(self, files: Mapping[str, str]) -> list[str]:
        """Return the command's words; ``files`` has ``model``, ``text``, ``heldout``, ``package``, ``python``."""
        words = ["python", "-m", f"benchmarks.{self.module}", *shlex.split(self.options)]
        if self.model:
            words += ["--model-dir", files["model"], "--text", files["text"]]
        if self.heldout:
            words += ["--heldout", files["heldout"]]
        if self.package and self.module != "gptq_block":  # that one drives the package's class itself
            words += ["--package", files["package"]]
        if self.package:
            words += ["--reference-python", files["python"]]
        return words


GPTQ, AWQ, AUTOAWQ = "gptqmodel_gptq", "gptqmodel_awq", "autoawq_awq"
"""Package files that ours is compared with."""

AWQ_ROW = "--method awq --bits 4 --grids asym --tokens 2048"
"""One row on few tokens: with 8,192 these packages search for half an hour on a processor."""

PIECES: dict[str, Planned] = {
    "bank": Planned("bank", "benchmarks", model=True),
    "evaluation": Planned("evaluation", "benchmarks", model=True),
    "gguf": Planned("gguf_command", "benchmarks", model=True, heldout=True, runs=("ramp/sized_gguf/__main__.py",)),
    "memory": Planned("memory", "benchmarks"),
    "growth": Planned("growth", "benchmarks"),
    "sac_cartpole": Planned("sac_reference", "benchmarks", "--tasks CartPole-v1"),
    "sac_pendulum": Planned("sac_reference", "benchmarks", "--tasks Pendulum-v1"),
    "on_card": Planned("on_card", "benchmarks", "--shape 7B", card=True),
    "gptq_block_7b": Planned("gptq_block", "benchmarks", package=GPTQ),
    "gptq_block_7b_act_order": Planned("gptq_block", "benchmarks", "--act-order", package=GPTQ),
    "awq_block_48m": Planned(
        "model", "benchmarks", "--method awq --block-of 48M --tokens 2048 --grid sym", package=AWQ, model=True
    ),
    # Few tokens, estimated from the piece above: our search costs the same whatever their number (8.7 times the
    # products, 500 s), the package's clip search grows with them up to 512 (4.2 times the weights: 1,600 s there)
    "awq_block_7b": Planned(
        "model",
        "benchmarks",
        "--method awq --block-of 7B --tokens 256 --length 128 --grid sym",
        package=AWQ,
        model=True,
    ),
    "gptq_model": Planned("model", "benchmarks", "--method gptq", package=GPTQ, model=True),
    # gptqmodel's AWQ has one group size for all linears: 64 is the largest that divides every row of SmolLM2
    "awq_model": Planned("model", "benchmarks", "--method awq --tokens 2048 --group-size 64", package=AWQ, model=True),
    "parity_gptq": Planned("parity", "parity", "--method gptq", package=GPTQ, model=True, heldout=True),
    "parity_awq": Planned("parity", "parity", AWQ_ROW, package=AWQ, model=True, heldout=True),
    "parity_autoawq": Planned("parity", "parity", AWQ_ROW, package=AUTOAWQ, model=True, heldout=True),
}
"""Pieces by name."""


def pieces_of(table: str) -> list[str]:
    """Return the names of the pieces of one table."""
    return [name for name, piece in PIECES.items() if piece.table == table]
