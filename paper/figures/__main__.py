"""Draw all figures of a study, or those named, as PDF and PNG.

    python -m paper.figures --records results/records --out results/paper/figures [--only pareto allocation]

A figure whose table is absent or empty shows a sentence instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from paper import style
from paper.figures.allocation import allocation
from paper.figures.anytime import anytime
from paper.figures.claims import claims
from paper.figures.frontier import frontier
from paper.figures.learning import learning
from paper.figures.optimum import optimum
from paper.figures.outliers import outliers
from paper.figures.pareto import pareto
from paper.figures.transfer import transfer
from paper.study import Study
from ramp.core import cli

FIGURES: dict[str, Callable[[Study], Figure]] = {
    draw.__name__: draw
    for draw in (pareto, claims, allocation, learning, outliers, transfer, anytime, optimum, frontier)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = Study.parser("Draw the figures of a study from its records.", "folder for {figure}.pdf and {figure}.png")
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=list(FIGURES), help="figures to draw")
    args = parser.parse_args(argv)
    study = Study.of(args)
    for name in args.only:
        style.save(FIGURES[name](study), args.out, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
