"""Files of ours beside llama.cpp's mixes, as the table, the figure and the text of the paper read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from paper import style
from paper.naming import STATIC_MIXES, method_title, model_title
from paper.study import Study
from paper.words import listed, plural, shown
from ramp.records.collect_gguf import WITHOUT_RIVAL
from ramp.sized_gguf.options import KNAPSACK

Line = Mapping[str, Any]
"""One row of gguf.csv."""

MIX_LOOKS = {
    True: (style.BLUE, "s", "llama.cpp's mix, imatrix"),
    False: (style.ORANGE, "D", "llama.cpp's mix, no matrix"),
}
"""Colour, marker and label by whether the mix had an importance matrix."""


class Files:
    """The rows of gguf.csv with scales as quantized, or those with tuned ones; none where there is no such table."""

    def __init__(self, study: Study, tuned: bool = False) -> None:
        frame = study.frame("gguf")
        self.lines: list[Line] = [] if frame is None else frame[frame["tuned"] == tuned].to_dict("records")
        self._order = study.models

    @cached_property
    def models(self) -> list[str]:
        """The models, those of the study first."""
        known = {model: place for place, model in enumerate(self._order)}
        names = {str(line["model"]) for line in self.lines}
        return sorted(names, key=lambda name: (known.get(name, len(known)), name))

    @property
    def pairs(self) -> list[Line]:
        """The rows of a file of ours beside a mix."""
        return [line for line in self.lines if line["rival"] != WITHOUT_RIVAL]

    def mixes(self, model: str) -> list[Line]:
        """Return the rows of llama.cpp's mixes by their bytes."""
        own = [line for line in self.lines if line["model"] == model and line["rival"] == WITHOUT_RIVAL]
        return sorted(own, key=lambda line: (line["bytes_file"], line["method"], not line["matrix"]))

    def by_mix(self, model: str) -> list[tuple[str, list[Line]]]:
        """Return every mix by name with its rows, the one with a matrix first."""
        found: dict[str, list[Line]] = {}
        for line in self.mixes(model):
            found.setdefault(str(line["method"]), []).append(line)
        return list(found.items())

    def ours(self, model: str, mixes: Sequence[Line]) -> list[dict[bool, Line]]:
        """Return per file of ours its rows beside some ``mixes``, by whether that mix had a matrix."""
        matrix_of = {str(mix["file"]): bool(mix["matrix"]) for mix in mixes}
        found: dict[str, dict[bool, Line]] = {}
        for line in self.pairs:
            if line["model"] == model and line["rival"] in matrix_of:
                found.setdefault(str(line["file"]), {})[matrix_of[str(line["rival"])]] = line
        return list(found.values())

    def frontiers(self, model: str) -> dict[str, list[Line]]:
        """Return the files of ours by title, each once, by their bytes."""
        found: dict[str, dict[str, Line]] = {}
        for line in self.pairs:
            if line["model"] == model:
                found.setdefault(file_title(line), {})[str(line["file"])] = line
        return {
            title: sorted(files.values(), key=lambda line: int(line["bytes_file"])) for title, files in found.items()
        }


def file_title(line: Line) -> str:
    """Return what a file is: ``Q4_K_M, imatrix``, or ours with its allocator."""
    if line["rival"] == WITHOUT_RIVAL:
        return f"{line['method']}, {'imatrix' if line['matrix'] else 'no matrix'}"
    plain = "" if line["matrix"] else ", no matrix"
    return f"ours, {method_title(line['method'])}{plain}"


def gguf_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield the numbers of the paper's text: how many files of the knapsack are better than the mix beside them."""
    files = Files(study)
    matrix_of = {
        (line["model"], line["file"]): bool(line["matrix"]) for line in files.lines if line["rival"] == WITHOUT_RIVAL
    }
    for name, matrix in (("matrix", True), ("plain", False)):
        own = [line for line in files.pairs if line["method"] == KNAPSACK]
        pairs = [line for line in own if matrix_of.get((line["model"], line["rival"])) == matrix]
        if not pairs:
            continue
        yield f"gguf.{name}.pairs", plural(len(pairs), "comparison")
        yield f"gguf.{name}.better", str(sum(line["ratio_high"] < 1 for line in pairs))
        yield f"gguf.{name}.models", listed([model_title(model) for model in files.models])
        by_model = {model: [line for line in pairs if line["model"] == model] for model in files.models}
        outcomes = [f"{model_title(model)}: {_outcome(own)}" for model, own in by_model.items() if own]
        yield f"gguf.{name}.outcome", "; ".join(outcomes)
    if files.pairs:
        yield from _limits(study, files)


def _outcome(pairs: Sequence[Line]) -> str:
    """Return in how many comparisons of one model our KL is lower or higher, and the range of its ratio, in words."""
    better, losing = sum(line["ratio_high"] < 1 for line in pairs), [line for line in pairs if line["ratio_low"] > 1]
    counts = {"lower": better, "higher": len(losing), "within noise": len(pairs) - better - len(losing)}
    mixes = ", ".join(dict.fromkeys(Path(str(line["rival"])).stem for line in losing))
    found = [
        f"{words} in {f'all {count}' if count == len(pairs) > 1 else count}{f' ({mixes})' if words == 'higher' else ''}"
        for words, count in counts.items()
        if count
    ]
    ratios = [float(line["kl_ratio"]) for line in pairs]
    ends = [f"{end:.2f}" for end in (min(ratios), max(ratios))]
    return f"{listed(found)}, {' to '.join(dict.fromkeys(ends))} times that of the mix"


OF_256 = ("_K", "IQ4_XS", "IQ3_S", "IQ3_XXS")
"""Ends of the names of types with blocks of 256 weights, of those that mixes take for linears."""


def falls_back(study: Study, model: str) -> bool:
    """Return whether llama.cpp's mixes of a model have types that only rows of no multiple of 256 are given."""
    frame = study.frame("allocations")
    if frame is None:
        return False
    types = frame[(frame["model"] == model) & frame["method"].isin(STATIC_MIXES) & (frame["grid"] == "ggml")]["type"]
    return not types.dropna().str.endswith(OF_256).all()


def _limits(study: Study, files: Files) -> Iterator[tuple[str, str]]:
    """Yield what limits the comparisons: ``gguf.not_256``: models whose rows take no block of 256;
    ``gguf.above_released``: comparisons at more bytes than the source's own released file has; ``gguf.perplexity``:
    largest difference between llama.cpp and transformers on our files, in per cent."""
    if odd := [model_title(model) for model in files.models if falls_back(study, model)]:
        yield "gguf.not_256", listed(odd)
    released = [e.mean("bytes_file") for e in study.find(study.source, "released", grid=None, stage=None)]
    own = [line for line in files.pairs if line["model"] == study.source and line["method"] == KNAPSACK]
    if released and released[0] and own:
        above = sum(line["bytes_file"] > released[0] for line in own)
        yield "gguf.above_released", f"{above} of the {plural(len(own), 'comparison')}"
    checks = study.frame("gguf_checks")
    if checks is not None and not (found := checks[checks["check"] == "perplexity_difference"]["value"]).empty:
        yield "gguf.perplexity", shown(float(found.max()), 2, 100)
