"""Ways of counting that fit a size and a number of bits stated of a quantized model: arithmetic alone.

    python -m ramp audit --model llama-2-7b --bits 3.65 --gb 3.68

"3.65 bits" and "3.68 GB" leave open what the bits hold (codes, or scales and zeros too), how embedding and head are
stored, and whether a gigabyte has 1e9 or 2^30 bytes. Each combination is one line: the gigabytes that the stated bits
come to, the bits that the stated gigabytes come to, and whether the size fits within ``--within``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.registry import load_registry
    from ramp.records.schema import TABLES
    from ramp.records.table import write_table
    from ramp.study.model_shape import ModelShape, shape_of

OVERHEADS = {
    "bits hold everything": 0.0,
    "bits are codes; fp16 scale per 128 weights": 16 / 128,
    "bits are codes; fp16 scale and 4-bit zero per 128 weights (AWQ packing)": 20 / 128,
    "bits are codes; fp16 scale and fp16 zero per 128 weights": 32 / 128,
    "bits are codes; fp16 scale and 4-bit zero per 64 weights": 20 / 64,
    "bits are codes; fp16 scale and fp16 zero per 32 weights": 32 / 32,
}
"""What the stated bits of a linear hold -> bits per weight beside them."""

STORED: dict[str, tuple[float, float] | None] = {
    "embedding and head in fp16": (16.0, 16.0),
    "embedding and head in Q8_0": (8.5, 8.5),
    "embedding in Q4_K, head in Q6_K": (4.5, 6.5625),
    "embedding and head like the linears": None,
}
"""How embedding and head are stored -> their bits per weight; None: those of the linears."""

UNITS = {"GB of 1e9 bytes": 1e9, "GiB": float(2**30)}

WITHIN = 0.005
"""Relative difference at which a size counts as fitting; two digits of some 3.7 GB hide 0.14 %."""


@dataclass(frozen=True)
class Line:
    """One accounting of a stated pair; the fields are the columns of audit.csv."""

    model: str
    bits: float  # stated
    gb: float  # stated
    accounting: str
    bits_of_it: float  # that the stated gigabytes come to
    gb_of_it: float  # that the stated bits come to
    fits: bool


def accountings(model: str, shape: ModelShape, bits: float, gb: float, within: float = WITHIN) -> Iterator[Line]:
    """Yield every accounting of a stated number of bits and size, the nearest size first.

    bytes = (linears * (bits + overhead) + embedding * e + head * h + norms * 16) / 8, with a tied head counted once.
    """
    table = shape.vocab_size * shape.hidden_size
    norms = 2 * (2 * shape.num_hidden_layers + 1) * shape.hidden_size  # bytes
    found = []
    for held, overhead in OVERHEADS.items():
        for stored, widths in STORED.items():
            if widths is None:
                weights, rest = shape.params, float(norms)
            else:
                embedding, head = widths
                weights = shape.linear_params
                rest = norms + table * (head if shape.tie_word_embeddings else embedding + head) / 8
            for unit, size in UNITS.items():
                of_bits = (weights * (bits + overhead) / 8 + rest) / size
                of_gb = 8 * (gb * size - rest) / weights - overhead
                fits = abs(of_bits / gb - 1) <= within
                found.append(Line(model, bits, gb, f"{held}; {stored}; {unit}", of_gb, of_bits, fits))
    yield from sorted(found, key=lambda line: abs(line.gb_of_it - gb))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="List the ways of counting that fit stated bits and gigabytes.")
    parser.add_argument("--model", required=True, help="name in the registry")
    parser.add_argument("--bits", type=float, nargs="+", required=True, help="stated bits per weight")
    parser.add_argument("--gb", type=float, nargs="+", required=True, help="stated size for each of them")
    parser.add_argument("--within", type=float, default=WITHIN, help="relative difference that fits")
    parser.add_argument("--registry", type=Path, default=Path("config/assets.yaml"), help="the asset registry")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with models/MODEL/config.json")
    parser.add_argument("--csv", type=OutputFile, default=None, help="also write every line to this file")
    args = parser.parse_args(argv)
    if len(args.bits) != len(args.gb) or min(*args.bits, *args.gb, 1.0) <= 0:
        raise RampError("--bits and --gb do not pair up: give one size for each number of bits, all of them positive")
    shape = shape_of(args.model, load_registry(args.registry), args.results)
    every = [list(accountings(args.model, shape, b, g, args.within)) for b, g in zip(args.bits, args.gb, strict=True)]
    for lines in every:
        fitting = [line for line in lines if line.fits]
        print(f"{args.model}, {lines[0].bits:g} bits and {lines[0].gb:g} GB: {len(fitting)} of {len(lines)} ways fit")
        for line in fitting or lines[:1]:
            nearest = "" if line.fits else ", the nearest"
            print(f"  {line.accounting}: {line.gb_of_it:.3f} ({line.bits_of_it:.3f} bits){nearest}")
    fits_all = [{line.accounting for line in lines if line.fits} for lines in every]
    if len(every) > 1:
        both = sorted(set.intersection(*fits_all))
        print(f"all of them at once: {'; '.join(both) or 'no way of counting'}")
    if args.csv:
        write_table(args.csv, [asdict(line) for lines in every for line in lines], TABLES["audit"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
