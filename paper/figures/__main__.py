"""Draw all figures of a study, or those named, as PDF and PNG.

    python -m paper.figures --records results/records --out results/paper/figures [--only pareto allocation]

A figure whose table is absent or empty shows a sentence instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paper import options
from paper.figures import FIGURES
from ramp.core import cli
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from matplotlib.figure import Figure

    from paper import style
    from paper.evidence import shortages
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


def drawings() -> dict[str, Callable[[Study], Figure]]:
    """Return the function that draws each figure, by its name."""
    drawn = (pareto, claims, allocation, learning, outliers, transfer, anytime, optimum, frontier)
    return {draw.__name__: draw for draw in drawn}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = options.parser(
        "Draw the figures of a study from its records.", "folder for {figure}.pdf and {figure}.png", OutputFolder
    )
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=list(FIGURES), help="figures to draw")
    args = parser.parse_args(argv)
    study = Study.of(args)
    draw, missing = drawings(), shortages(study)
    for name in args.only:
        style.save(style.marked(draw[name](study), missing), args.out, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
