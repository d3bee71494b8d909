"""Inputs and commands of the comparisons of ``benchmarks.plan``, as the rule ``comparison`` takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import PIECES, pieces_of
from ramp.methods.kinds import Package
from ramp.methods.loader import load_method
from ramp.study.rule_inputs import RuleFiles


@dataclass(frozen=True)
class ComparisonFiles:
    """Inputs of the comparisons, by their names."""

    files: RuleFiles

    def of_table(self, table: str) -> list[str]:
        """Return the pieces of one table that need no GPU."""
        names = [name for name in pieces_of(table) if not PIECES[name].card]
        return [f"{self.files.results}/compared/{name}.json" for name in names]

    def model(self, comparison: str) -> list[str]:
        """Return the study's source model, where a comparison needs it."""
        return [self._model] if PIECES[comparison].model else []

    @property
    def _model(self) -> str:
        return f"{self.files.results}/models/{self.files.study.source}/asset.json"

    def texts(self, comparison: str) -> list[str]:
        """Return the texts that a comparison reads: calibration text, then held-out text."""
        piece = PIECES[comparison]
        roles = ["calibration"] * piece.model + ["heldout"] * piece.heldout
        return [f"{self.files.results}/texts/{role}.jsonl" for role in roles]

    def package(self, comparison: str) -> list[str]:
        """Return the file in baselines/ of the package that ours is compared with."""
        package = PIECES[comparison].package
        return [self.files.local(f"baselines/{package}.py")] if package else []

    def environment(self, comparison: str) -> list[str]:
        """Return that package's environment; ``MethodError`` where its file does not load."""
        package = PIECES[comparison].package
        if not package:
            return []
        method = load_method(self.files.root / "baselines" / f"{package}.py")
        assert isinstance(method, Package)  # a comparison names packages only
        return [f"{self.files.environments}/{method.env_name}/environment.json"]

    def stage(self, comparison: str) -> list[str]:
        """Return the sources of both sides."""
        piece = PIECES[comparison]
        package = [f"baselines/{piece.package}.py"] if piece.package else []
        return self.files.sources(f"benchmarks/{piece.module}.py", *piece.runs, *package)

    def threads(self, comparison: str) -> int:
        """Return all threads where time is measured: such a piece has the machine to itself."""
        return 1024 if PIECES[comparison].timed else 1

    def command(self, comparison: str) -> list[str]:
        """Return the words of a comparison's command line, without its output."""
        files = dict(zip(("text", "heldout"), self.texts(comparison), strict=False))
        files["model"] = str(Path(self._model).parent)
        for package, environment in zip(self.package(comparison), self.environment(comparison), strict=True):
            files |= {"package": package, "python": str(Path(environment).parent / "bin" / "python")}
        return PIECES[comparison].command(files)
