"""Run llama.cpp's quantizer in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.export.llamacpp_quantize import quantize_gguf, read_importance_file


def main(argv: Sequence[str] | None = None) -> int:
    """Quantize one file; see ``ramp.export.llamacpp_quantize``."""
    parser = cli.parser("Quantize a float GGUF file to a static mix of llama.cpp, by llama.cpp.")
    parser.add_argument("--gguf", type=Path, required=True, help="float GGUF file")
    parser.add_argument("--file-type", required=True, help="name of the mix, for instance Q4_K_M")
    parser.add_argument("--table-type", default="Q8_0", help="ggml type of embedding and head")
    parser.add_argument("--imatrix", type=Path, default=None, help="importance matrix (llama.cpp's GGUF format)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    importance = read_importance_file(args.imatrix) if args.imatrix else None
    quantize_gguf(
        args.gguf, args.out, args.file_type, table_type=args.table_type, importance=importance, threads=args.threads
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
