"""A search by hand: what ``python -m ramp.search --model M --budget 3.65`` reads, found in a folder of results.

Everything that is not said on the command line is taken from where the workflow puts it (docs/architecture.md,
section 1). What the workflow declares as its own output is never written: a search by hand leaves its allocation,
episodes, policy and summary in ``R/by_hand/{model}/{method}/{budget}/{seed}/``.
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from ramp.methods.kinds import Allocator
from ramp.methods.loader import find_method
from ramp.problem.problem import AllocationError

BASELINES = Path(__file__).resolve().parents[2] / "baselines"


def method_file(args: argparse.Namespace) -> Path:
    """Return ``--method-file``, or the reference of ``--method`` in ``baselines/``."""
    return args.method_file or find_method(BASELINES, args.method)


def fill(args: argparse.Namespace, method: Allocator) -> None:
    """Set every path of ``args`` that is None from ``--results`` and ``--model``.

    Raises:
        AllocationError: neither ``--model`` nor the paths were given, the model is unknown there, or a file is
            missing; the message says what makes it.
    """
    paths = ("model_dir", "bank", "fold", "calibration", "sensitivity", "search_text", "selection_text")
    missing = [name for name in (*paths, "out", "artifacts", "state_dir") if getattr(args, name, "") is None]
    optional = {"fold", "sensitivity"}  # without --model they may be left out: no fold, no proxy
    if args.model is None:
        if set(missing) - optional:
            options = ", ".join("--" + name.replace("_", "-") for name in missing if name not in optional)
            raise AllocationError(f"no --model was given, and neither {options}: name a model or every path")
        return
    if not isinstance(method.quantizer, str):
        raise AllocationError(f"method '{method.name}' brings a quantizer of its own, of which there is no bank")
    results, model = Path(args.results), args.model
    own = results / "by_hand" / model / method.name / f"{args.budget:g}" / str(args.seed)
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
    for name in missing:
        setattr(args, name, known[name])
    absent = [name for name in missing if name in paths and not known[name].exists()]
    if "model_dir" in absent:
        models = [path.name for path in sorted((results / "models").glob("*"))]
        near = difflib.get_close_matches(model, models, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise AllocationError(
            f"no model '{model}' in {results}/models{hint}: make it with "
            f"`snakemake --cores all {known['model_dir']}/asset.json`, or pass --results"
        )
    if absent:
        made = {"bank": "/bank.json"}
        targets = " ".join(f"{known[name]}{made.get(name, '')}" for name in absent)
        raise AllocationError(f"missing in {results}: make it with `snakemake --cores all {targets}`")
