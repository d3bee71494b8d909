"""Cholesky factors of second moments, for ``benchmarks.stability``: what GPTQ feeds rounding errors back by.

    python -m benchmarks.cholesky --moments moments.safetensors --out factors.safetensors

reads the file of ``benchmarks.second_moments`` and keeps each site's feedback rows, upper triangular [d_in, d_in].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from safetensors.torch import load_file

    from ramp.core.tensor_file import save_tensors
    from ramp.quantizers.gptq import prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Cholesky factors of second moments, as GPTQ takes them.")
    parser.add_argument("--moments", type=Path, required=True, help="file of benchmarks.second_moments")
    parser.add_argument("--out", type=OutputFile, required=True, help="safetensors file to write")
    args = parser.parse_args(argv)
    moments = load_file(args.moments)
    save_tensors(args.out, {site: prepare(hessian, name=site).feedback for site, hessian in moments.items()}, {})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
