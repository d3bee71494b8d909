"""Run allocators on an enumerated problem: every evaluation is looked up, and the gap to the optimum is exact.

    python -m ramp.optimum.run --enumeration R/optimum/M/halves-8.json --sensitivity R/sensitivity/M/awq-gptq.json \\
        --method-file baselines/ramp.py --budgets 3.5 4 --checkpoints 100 300 --seeds 0 1 2 --out F.json

The file: ``model, units, allocator, method, params`` and ``rows``: ``budget_bits, allocator, title, seed, evals, spent,
kl, kl_optimum, gap, gap_share, better, allocations, note, command`` (``ramp.records.schema``). Search and
selection text are both the enumerated text: the question is how well a method searches, not how well it generalises.
A run is read as in the league, but the incumbent is the best feasible allocation so far, the start included.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, require_file, write_json
from ramp.core.output_path import OutputFile
from ramp.core.stale_temporaries import temporary_folder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import numpy as np
    from pydantic import PositiveInt

    from ramp.core.tensors import open_tensors
    from ramp.league.checkpoints import incumbent, moments
    from ramp.methods.kinds import Allocator
    from ramp.models.architecture import LinearSpec
    from ramp.optimum.units import OptimumError
    from ramp.problem.budget import budget_bytes, check_budget
    from ramp.problem.problem import Problem, decode
    from ramp.problem.proxy import read_proxy
    from ramp.scoring.score_type import Score
    from ramp.search.journal import SearchState
    from ramp.search.run import run_search
    from ramp.search.setup import load_allocator

if TYPE_CHECKING:
    from pydantic import BaseModel

log = logging.getLogger("ramp.optimum.run")


@dataclass(frozen=True)
class EnumerationIndex:
    """Fields of an enumeration's index that describe its problem; it may hold more."""

    model: str
    units: str
    linears: list[LinearSpec]  # the units, each as one linear
    members: list[list[LinearSpec]]  # the linears of every unit
    widths: list[PositiveInt]
    bytes: list[list[PositiveInt]]  # per unit and width
    features: list[list[float]]  # per unit
    group_size: PositiveInt
    windows: PositiveInt
    length: PositiveInt  # tokens per window
    nll_float: float
    command: str

    def __post_init__(self) -> None:
        """Refuse lists of different lengths."""
        units = len(self.linears)
        if not {len(self.members), len(self.bytes), len(self.features)} == {units} or not units:
            raise ValueError("it describes another number of units than it has")
        if any(len(row) != len(self.widths) for row in self.bytes) or len({len(row) for row in self.features}) != 1:
            raise ValueError("its units have different numbers of widths or features")
        if not all(self.members):
            raise ValueError("a unit has no linear")


@dataclass(frozen=True)
class Enumeration:
    """Every allocation of a small problem with its score."""

    about: EnumerationIndex
    kl: np.ndarray  # float64 [w] * n
    nll: np.ndarray  # float64 [w] * n

    @classmethod
    def read(cls, index: Path) -> Enumeration:
        """Read an index and its scores; ``OptimumError`` where they are incomplete or do not fit."""
        again = "run ramp.optimum again"
        about = read_json(require_file(index, "enumeration"), EnumerationIndex, sealed=True, again=again)
        path = index.with_suffix(".safetensors")
        with open_tensors(path, "scores of the enumeration", framework="np", again=again) as tensors:
            kl, nll = tensors["kl"], tensors["nll"]
        expected = (len(about.widths),) * len(about.linears)
        if kl.shape != expected or nll.shape != expected or np.isnan(kl).any():
            raise OptimumError(f"{path} does not hold every allocation of {index}: run ramp.optimum again")
        return cls(about, kl, nll)

    @property
    def sizes(self) -> np.ndarray:
        """Packed bytes of every unit at every width: int64 [n, w]."""
        return np.array(self.about.bytes, dtype=np.int64)

    @property
    def members(self) -> list[LinearSpec]:
        """All linears of all units."""
        return [member for unit in self.about.members for member in unit]

    def budget(self, bits: float) -> int:
        """Return the bytes that a budget of ``bits`` over the units stands for."""
        return budget_bytes(self.members, bits, self.about.group_size)

    def total_bytes(self) -> np.ndarray:
        """Return the size of every allocation: int64 [w] * n."""
        n, w = self.sizes.shape
        parts = [row.reshape([w if axis == i else 1 for axis in range(n)]) for i, row in enumerate(self.sizes)]
        return sum(parts[1:], start=parts[0])

    def within(self, bits: float) -> np.ndarray:
        """Return the KLs of all allocations within a budget, ascending."""
        check_budget(self.sizes, self.budget(bits))
        return np.sort(self.kl[self.total_bytes() <= self.budget(bits)])

    def score(self, choice: np.ndarray) -> Score:
        """Return the score of an allocation [n]."""
        where = tuple(int(index) for index in choice)
        nll = float(self.nll[where])
        ppl = float(np.exp(nll)) if nll < 700 else float("inf")
        return Score(float(self.kl[where]), ppl, nll, self.about.windows * self.about.length)

    def problem(self, bits: float, sensitivity: Path | None, state: SearchState, evals: int) -> Problem:
        """Return the problem that allocators are given."""
        proxy, tokens = None, 0
        if sensitivity is not None:
            rows, tokens = read_proxy(sensitivity, self.members, self.about.widths)
            ends = np.cumsum([len(unit) for unit in self.about.members])
            proxy = np.stack([part.sum(axis=0) for part in np.split(rows, ends[:-1])])
        return Problem(
            model=self.about.model,
            linears=self.about.linears,
            widths=tuple(self.about.widths),
            bytes=self.sizes,
            budget_bytes=self.budget(bits),
            budget_bits=bits,
            features=np.array(self.about.features, dtype=np.float32),
            proxy=proxy,
            evaluate=state.evaluator("search", self.score, limit=evals),
            select=state.evaluator("selection", self.score),
            proxy_tokens=tokens,
            nll_float=self.about.nll_float,
            bytes_at=self.budget,
        )


def rows_of(
    table: Enumeration,
    method: Allocator,
    params: BaseModel,
    *,
    bits: float,
    seed: int,
    checkpoints: Sequence[int],
    sensitivity: Path | None,
) -> list[dict[str, Any]]:
    """Return the rows of one run, read at its checkpoints."""
    with temporary_folder("ramp-optimum") as folder:
        state = SearchState.open(folder, {"seed": seed, "bits": bits})
        problem = table.problem(bits, sensitivity, state, checkpoints[-1])
        search = run_search(method, params, problem, state, seed=seed, evals=checkpoints[-1])
        within = table.within(bits)
        optimum, rows = float(within[0]), []
        for allowed in moments(checkpoints, search.spent):
            upto = search.upto(allowed)
            choice, _, note = incumbent(search, upto, count=1)
            row: dict[str, Any] = {"budget_bits": bits, "seed": seed, "evals": allowed, "note": note}
            row["spent"] = search.evaluations[upto - 1].evals if upto else 0
            row |= {"kl_optimum": optimum, "allocations": len(within), "kl": None}
            if choice is not None:
                kl = table.score(decode(choice)).kl
                row |= {"kl": kl, "gap": kl - optimum, "gap_share": (kl - optimum) / optimum}
                row["better"] = int(np.searchsorted(within, kl, side="left"))
            rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Run one allocator on an enumerated problem, at every budget with every seed.", "--params")
    parser.add_argument("--enumeration", type=Path, required=True, help="index of ramp.optimum")
    parser.add_argument("--sensitivity", type=Path, default=None, help="additive sensitivities (ramp.sensitivity)")
    parser.add_argument("--method-file", type=Path, required=True, help="file that registers an allocator")
    parser.add_argument("--name", default="", help="name of the allocator, for a variant; the method's own if empty")
    parser.add_argument("--title", default="", help="name in tables; the paper's own name if empty")
    parser.add_argument("--budgets", type=float, nargs="+", required=True, help="bits over the units")
    parser.add_argument(
        "--checkpoints", type=cli.count, nargs="+", required=True, help="evaluations at which runs are read"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of every random draw")
    parser.add_argument("--out", type=OutputFile, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.checkpoints != sorted(set(args.checkpoints)):
        raise OptimumError(f"--checkpoints {args.checkpoints} should rise and repeat nothing")
    method, params = load_allocator(args.method_file, args.params)
    table = Enumeration.read(args.enumeration)
    rows = []
    for bits in args.budgets:
        for seed in args.seeds:
            rows += rows_of(
                table, method, params,
                bits=bits, seed=seed, checkpoints=args.checkpoints, sensitivity=args.sensitivity,
            )  # fmt: skip
    shared = {"allocator": args.name or method.name, "title": args.title, "command": table.about.command}
    record = {
        "model": table.about.model,
        "units": table.about.units,
        "allocator": shared["allocator"],
        "method": method.name,
        "params": params.model_dump(mode="json"),
        "rows": [{**row, **shared} for row in rows],
    }
    write_json(args.out, record, sealed=True)
    for row in rows:
        log.info(
            "%s at %g bits, seed %d, %d evaluations: KL %s, optimum %.5f, gap %s", shared["allocator"],
            row["budget_bits"], row["seed"], row["spent"], "none" if row["kl"] is None else f"{row['kl']:.5f}",
            row["kl_optimum"], "none" if row["kl"] is None else f"{100 * row['gap_share']:.2f} %",
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
