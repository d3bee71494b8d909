"""The options that name calibration text and its windows; imports no torch."""

from __future__ import annotations

from typing import Any


def add_text_arguments(parser: Any) -> None:
    """Add ``--model-dir --text --tokens --length --draw``, the options of every stage that calibrates."""
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", required=True, help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    add_draw(parser)


def add_draw(parser: Any) -> None:
    """Add ``--draw``, the seed by which windows are drawn."""
    parser.add_argument(
        "--draw", type=int, default=0, help="seed of documents, their order and windows; 0: even spread"
    )
