"""The options that name a problem, a method and what it may spend; imports no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ramp.core.cli import OPTIONS, count
from ramp.core.output_path import OutputFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a problem, a method and what it may spend: those of ``ramp.search.setup.prepare``."""
    option = parser.add_argument
    option("--model", default=None, help="model in --results; paths that are not given are found there")
    option("--results", type=Path, default=Path("results"), help="results folder of a study")
    option("--model-dir", type=Path, default=None, help="Hugging Face checkpoint folder")
    option("--bank", type=Path, default=None, help="bank folder (ramp.bank)")
    option("--fold", type=Path, default=None, help="fold file that the bank was made with")
    option("--calibration", type=Path, default=None, help="activation statistics (ramp.calibration)")
    option("--sensitivity", type=Path, default=None, help="additive sensitivities (ramp.sensitivity)")
    option("--search-text", type=Path, default=None, help="text that candidates are scored on")
    option("--selection-text", type=Path, default=None, help="text that the final one is chosen on")
    option("--search-windows", type=count, default=16, help="windows of search text, spread over it")
    option("--search-length", type=count, default=128, help="tokens per window")
    option("--selection-windows", type=int, default=0, help="windows of selection text; 0: as many as of search text")
    option("--method", default="ramp", help="file in baselines/ that registers an allocator")
    option("--method-file", type=Path, default=None, help="the same by its path, from anywhere")
    option("--params", **OPTIONS["--params"])
    option("--budget", type=float, required=True, help="bits per weight that the budget stands for")
    option("--evals", type=count, default=100, help="evaluations on search text that the method may spend")
    option("--seed", type=int, default=0, help="seed of every random draw")
    option("--state-dir", type=OutputFolder, default=None, help="folder for checkpoints, kept across kills")
