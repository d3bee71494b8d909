"""Commonsense tasks of one row through lm-evaluation-harness itself (Gao et al., zenodo 10.5281/zenodo.12608602).

    python -m ramp.evaluation.tasks --row-dir R/quantized/M/gptq-b4-s0 --model-dir R/models/M --tasks-dir R/tasks \\
        --tasks piqa hellaswag --limit 100 --out R/tasks_scored/M/gptq-b4-s0.json

Prompts, answer scores, accuracies and standard errors are lm-eval's: zero-shot, its own task definitions, with
nothing changed but where the rows come from (local JSON lines, no hub). ``acc`` takes the likeliest answer,
``acc_norm`` the likeliest per byte. Answers are kept item by item, since two methods at 64 % are only told
apart by the items on which they differ. ``--limit`` takes the first rows of a task, as lm-eval's own limit does.

Writes ``{"key": record key, "tasks": {task: {"acc", "acc_norm", "acc_se", "acc_norm_se", "limit", "items":
[{"doc_id", "correct", "correct_norm"}]}}, "lm_eval_version", "dtype", "versions", "hardware", "wall_s"}``;
``acc_norm`` and ``correct_norm`` are null where a task has no such score, ``limit`` is null without one.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.files import finite, write_json
from ramp.core.provenance import hardware, versions
from ramp.evaluation.metrics import KEY
from ramp.models.device import pick_device, pick_dtype
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("ramp.evaluation.tasks")

SEED = 1234  # lm-eval's own default; nothing is drawn in zero-shot multiple choice


@dataclass(frozen=True)
class TaskSource:
    """Where lm-eval defines a task, relative to its tasks folder, and the split that it scores."""

    definition: str
    split: str  # validation or test


TASKS: dict[str, TaskSource] = {
    "piqa": TaskSource("piqa/piqa.yaml", "validation"),
    "hellaswag": TaskSource("hellaswag/hellaswag.yaml", "validation"),
    "winogrande": TaskSource("winogrande/default.yaml", "validation"),
    "arc_easy": TaskSource("arc/arc_easy.yaml", "test"),
    "arc_challenge": TaskSource("arc/arc_challenge.yaml", "test"),
    "boolq": TaskSource("super_glue/boolq/default.yaml", "validation"),
    "openbookqa": TaskSource("openbookqa/openbookqa.yaml", "test"),
}
"""By lm-eval's name."""


class HarnessError(RampError):
    """An unknown task, missing rows, or a result that lm-eval did not give."""


def rows_file(tasks_dir: str | Path, task: str) -> Path:
    """The rows of a task: ``{task}.jsonl``, or ``{task}/{split}.jsonl``, either also ``.gz``."""
    from ramp.core.hints import nearest  # the one place that words such hints

    if task not in TASKS:
        raise HarnessError(f"unknown task '{task}'{nearest(task, TASKS)}; known: {', '.join(TASKS)}")
    folder = Path(tasks_dir)
    stems = (f"{task}.jsonl", f"{task}/{TASKS[task].split}.jsonl")
    for name in (each + suffix for each in stems for suffix in ("", ".gz")):
        if (folder / name).is_file():
            return folder / name
    raise HarnessError(f"no rows of task '{task}' at {folder / stems[0]}: fetch them with ramp.assets.install tasks")


def task_config(task: str, rows: Path, cache: Path) -> dict[str, Any]:
    """lm-eval's own definition of ``task`` with its rows read from a local file, as an including YAML would say it."""
    import lm_eval.tasks

    source = TASKS[task]
    definition = Path(lm_eval.tasks.__file__).parent / source.definition
    if not definition.is_file():
        raise HarnessError(f"lm-eval no longer defines {task} at {source.definition}: use the pinned version")
    other = {"validation": "test", "test": "validation"}[source.split]
    return {
        "include": str(definition),
        "task": task,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {source.split: str(rows.resolve())}, "cache_dir": str(cache)},
        "training_split": None,
        f"{other}_split": None,
        f"{source.split}_split": source.split,
    }


def score_tasks(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Mapping[str, Path],
    *,
    limit: int | None,
    batch_size: int = 8,
) -> dict[str, dict[str, Any]]:
    """Zero-shot scores of ``tasks`` (name -> file of rows) by ``lm_eval.simple_evaluate``, item by item."""
    # Read when the libraries are first imported; a task that wanted the hub would otherwise wait for a network.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import yaml
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    device = str(next(model.parameters()).device)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device)
    with tempfile.TemporaryDirectory(prefix="ramp-tasks-") as folder:
        overrides, cache = Path(folder) / "tasks", Path(folder) / "cache"
        overrides.mkdir()
        for task, rows in tasks.items():
            text = yaml.safe_dump(task_config(task, rows, cache), sort_keys=False)
            (overrides / f"{task}.yaml").write_text(text, encoding="utf-8")
        found = simple_evaluate(
            lm,
            tasks=list(tasks),
            num_fewshot=0,
            limit=limit,
            log_samples=True,
            task_manager=TaskManager(include_path=overrides, include_defaults=False),
            random_seed=SEED,
            numpy_random_seed=SEED,
            torch_random_seed=SEED,
        )
    if found is None:
        raise HarnessError("lm-eval gave no result in this process: run the row in a single process")
    return {task: task_result(task, found, limit) for task in tasks}


def task_result(task: str, found: Any, limit: int | None) -> dict[str, Any]:
    """The entry of one task in the file, from what ``simple_evaluate`` returned."""
    scores, samples = found["results"][task], found["samples"][task]

    def number(name: str) -> float | None:
        value = scores.get(f"{name},none")
        return finite(float(value)) if isinstance(value, (int, float)) else None  # "N/A" of a single row

    items = [
        {
            "doc_id": int(sample["doc_id"]),
            "correct": bool(sample["acc"]),
            "correct_norm": bool(sample["acc_norm"]) if "acc_norm" in sample else None,
        }
        for sample in samples
    ]
    return {
        "acc": number("acc"),
        "acc_norm": number("acc_norm"),
        "acc_se": number("acc_stderr"),
        "acc_norm_se": number("acc_norm_stderr"),
        "limit": limit,
        "items": sorted(items, key=lambda item: item["doc_id"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = cli.parser("Commonsense tasks of one row, zero-shot, through lm-evaluation-harness.")
    parser.add_argument("--row-dir", type=Path, required=True, help="folder with the row's meta.json")
    parser.add_argument("--model-dir", type=Path, required=True, help="float checkpoint folder (tokenizer)")
    parser.add_argument("--tasks-dir", type=Path, required=True, help="folder of {task}.jsonl")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="NAME", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--limit", type=int, default=0, help="score the first rows of each task only; 0 scores all")
    parser.add_argument("--batch-size", type=int, default=8, help="answers per forward pass")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.limit < 0:
        raise HarnessError(f"--limit {args.limit}: give a number of rows, or 0 for all")
    cli.set_threads(args.threads)
    files = {task: rows_file(args.tasks_dir, task) for task in args.tasks}
    began = time.monotonic()
    from ramp.rows.checkpoint import load_dequantized, read_meta

    meta = read_meta(args.row_dir)
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    tasks: dict[str, dict[str, Any]] = {}
    if not meta.get("failed"):  # a row that could not run has no model and no scores
        model = load_dequantized(args.row_dir, args.model_dir, dtype, device)
        tokenizer = ModelFolder(args.model_dir).tokenizer()
        tasks = score_tasks(model, tokenizer, files, limit=args.limit or None, batch_size=args.batch_size)
    found = versions()
    write_json(
        args.out,
        {
            "key": {name: meta[name] for name in KEY},
            "tasks": tasks,
            "lm_eval_version": found["lm_eval"],
            "dtype": str(dtype).removeprefix("torch."),
            "versions": found,
            "hardware": hardware(str(device)),
            "wall_s": round(time.monotonic() - began, 3),
        },
    )
    for task, result in tasks.items():
        log.info("%s: acc %.4f on %d rows", task, result["acc"], len(result["items"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
