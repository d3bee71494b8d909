"""The options of ``python -m ramp gguf``; imports no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ramp.core.output_path import OutputFile, OutputFolder
from ramp.gguf_format.type_names import MENU

REGISTRY = Path(__file__).parents[2] / "config" / "assets.yaml"

KNAPSACK = "knapsack"
"""The method that reads the bank's costs and scores nothing."""


EVALS, TUNE_STEPS = 100, 60
"""Evaluations of a searching method, and steps of tuning, where nobody gives a number."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    option = parser.add_argument
    option("model", help="checkpoint folder, hub repository (owner/name[@commit]), or a model of config/assets.yaml")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--size", default=None, help="largest size of the file: 90MB (10^6 bytes), 1.5GiB, 90000000")
    asked.add_argument("--bpw", type=float, default=None, help="bits per weight of the whole file, tokenizer included")
    asked.add_argument("--fits", default=None, help="memory for weights, cache and buffers together: 6GB")
    option("--context", type=int, default=None, help="tokens of context for --fits; none: 4096, or the model's own")
    option("--out", type=OutputFile, required=True, help="file to write, *.gguf; files of its name lie beside it")
    option("--dry-run", action="store_true", help="print the plan, to the byte, and write no file")
    option("--text", type=Path, default=None, help="calibration text (UTF-8, or a role's .jsonl); none: packaged C4")
    option("--heldout-text", type=Path, default=None, help="text to judge on; none: packaged Wikipedia")
    option("--method", default=KNAPSACK, help="allocator of baselines/ that chooses the types")
    option("--policy", type=Path, default=None, help="folder of a policy that --method ramp trained on another model")
    option("--evals", type=int, default=None, help=f"evaluations of a searching method; none: {EVALS}")
    option("--refit", action="store_true", help="fit the scales again by least squares, codes frozen, block by block")
    option("--tune", action="store_true", help="tune scales and norm gains by KL to the float model, codes frozen")
    option("--tune-steps", type=int, default=None, help=f"steps of it, 1,024 tokens each; none: {TUNE_STEPS}")
    option("--types", default=",".join(MENU), help="ggml types to choose from")
    option("--tokens", type=int, default=16384, help="calibration tokens behind the importance matrix")
    option("--length", type=int, default=512, help="tokens per window of it, and of held-out text")
    option("--windows", type=int, default=8, help="windows of the backward pass")
    option("--window-length", type=int, default=256, help="tokens per window of it")
    option("--heldout-windows", type=int, default=16, help="windows of held-out text")
    option(
        "--llama-perplexity", type=int, default=0, help="chunks on which llama-perplexity's own protocol is followed"
    )
    option("--no-rival", action="store_true", help="make no mix of llama.cpp to compare with")
    option("--work", type=OutputFolder, default=None, help="intermediate files; none: .ramp-gguf beside the output")
    option("--registry", type=Path, default=REGISTRY, help="registry of assets")
    option("--seed", type=int, default=0, help="seed of the labels that the backward pass draws")
