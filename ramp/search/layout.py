"""Paths of the files of ``python -m ramp.search --model M --budget 3.65``: the workflow's places in a results folder.

Every path that the command line does not give is taken from where the workflow puts it (docs/formats.md). The outputs
that the workflow declares are never written: such a search leaves its allocation, episodes, policy and summary in
``R/by_hand/{model}/{method}/{budget}/{seed}/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ramp.core.nearest_name import nearest
from ramp.methods.kinds import Allocator
from ramp.problem.problem import AllocationError

READ = ("model_dir", "bank", "fold", "calibration", "sensitivity", "search_text", "selection_text")
"""The paths that a search reads; the others are written."""

OPTIONAL = ("fold", "sensitivity")
"""Paths that may be absent where no model is named: no fold, no proxy."""


def find_paths(
    given: Mapping[str, Path | None], results: Path, model: str | None, method: Allocator, budget: float, seed: int
) -> dict[str, Path | None]:
    """Return ``given`` (option -> path) with every None replaced from ``results`` and ``model``.

    Raises:
        AllocationError: neither ``model`` nor the paths were given, the model is unknown there, or a file is missing;
            the message names the command that makes it.
    """
    missing = [name for name, path in given.items() if path is None]
    if model is None:
        needed = ", ".join("--" + name.replace("_", "-") for name in missing if name not in OPTIONAL)
        if needed:
            raise AllocationError(f"no --model was given, and neither {needed}: name a model or every path")
        return dict(given)
    if not isinstance(method.quantizer, str):
        raise AllocationError(f"method '{method.name}' brings a quantizer of its own, which no bank has")
    own = results / "by_hand" / model / method.name / f"{budget:g}" / str(seed)
    bank = f"{method.fold}-{method.quantizer}"
    known = {
        "model_dir": results / "models" / model,
        "bank": results / "bank" / model / bank,
        "fold": results / "folds" / model / f"{method.fold}.safetensors",
        "calibration": results / "calibration" / f"{model}.safetensors",
        "sensitivity": results / "sensitivity" / model / method.sensitivities(bank),
        "search_text": results / "texts" / "search.jsonl",
        "selection_text": results / "texts" / "selection.jsonl",
        "out": own / "allocation.json",
        "artifacts": own,
        "state_dir": results / ".state",
    }
    absent = [name for name in missing if name in READ and not known[name].exists()]
    if "model_dir" in absent:
        hint = nearest(model, (path.name for path in sorted((results / "models").glob("*"))))
        raise AllocationError(
            f"no model '{model}' in {results}/models{hint}: make it with "
            f"`snakemake --cores all {known['model_dir']}/asset.json`, or pass --results"
        )
    if absent:
        targets = " ".join(f"{known[name]}{'/bank.json' if name == 'bank' else ''}" for name in absent)
        raise AllocationError(f"missing in {results}: make it with `snakemake --cores all {targets}`")
    return {name: known[name] if path is None else path for name, path in given.items()}
